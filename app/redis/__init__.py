"""Links to Redis: one server, a primary behind Sentinels, a Cluster, the embedded server; subscriptions and beats."""
