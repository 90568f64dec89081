"""The messenger: users, rooms, messages and files of a site's own, over Socket.IO."""
