-- Recado's outbox, version 1. It may be run again: what is there stays.
-- Run it in one transaction, as the owner of the tables: a migration of a framework, or psql -1 -f.
-- Needs PostgreSQL 13 or later.

CREATE TABLE IF NOT EXISTS __SCHEMA__.recado_outbox_version (
  version integer NOT NULL,
  -- Names this outbox in the idempotency keys of its messages.
  outbox uuid NOT NULL
);
INSERT INTO __SCHEMA__.recado_outbox_version
  SELECT 1, gen_random_uuid() WHERE NOT EXISTS (SELECT FROM __SCHEMA__.recado_outbox_version);
UPDATE __SCHEMA__.recado_outbox_version SET version = 1 WHERE version <> 1;

-- The messages, as transactions have written them. No row changes.
CREATE TABLE IF NOT EXISTS __SCHEMA__.recado_outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  site text NOT NULL,
  rooms text[] NOT NULL,
  event text NOT NULL,
  -- The body of POST /send.
  body text NOT NULL,
  resync boolean NOT NULL,
  -- The rooms that the message is in order with: site/room, in lower case.
  keys text[] NOT NULL,
  -- The locks of these rooms, a bit each.
  lanes bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The place of each message in the order of commits, and what became of it.
CREATE TABLE IF NOT EXISTS __SCHEMA__.recado_outbox_place (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id bigint NOT NULL,
  site text NOT NULL,
  keys text[] NOT NULL,
  bytes integer NOT NULL,
  resync boolean NOT NULL,
  -- 0 waits, 1 sent, 2 parked
  state smallint NOT NULL DEFAULT 0,
  attempts smallint NOT NULL DEFAULT 0,
  due_at timestamptz,
  ended_at timestamptz,
  reason text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS recado_outbox_waiting ON __SCHEMA__.recado_outbox_place (position) WHERE state = 0;
CREATE INDEX IF NOT EXISTS recado_outbox_sent ON __SCHEMA__.recado_outbox_place (ended_at) WHERE state = 1;
CREATE INDEX IF NOT EXISTS recado_outbox_parked ON __SCHEMA__.recado_outbox_place (position) WHERE state = 2;

-- Sends an event to rooms of a site when the transaction commits. Returns the number of the message in the outbox.
CREATE OR REPLACE FUNCTION __SCHEMA__.recado_send(
  site text, rooms text[], event text, args jsonb DEFAULT NULL, options jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  room_keys text[];
  room_lanes bigint;
  message text;
  number bigint;
BEGIN
  IF site IS NULL OR octet_length(site) NOT BETWEEN 1 AND 256 THEN
    RAISE 'recado_send: site: expected a text of 1 to 256 bytes' USING ERRCODE = '22023';
  ELSIF rooms IS NULL OR array_ndims(rooms) IS DISTINCT FROM 1 OR array_position(rooms, NULL) IS NOT NULL
      OR cardinality(rooms) > 1000 OR octet_length(array_to_string(rooms, '')) > 65536 THEN
    RAISE 'recado_send: rooms: expected 1 to 1000 texts of 65536 bytes together' USING ERRCODE = '22023';
  ELSIF event IS NULL OR octet_length(event) NOT BETWEEN 1 AND 256 THEN
    RAISE 'recado_send: event: expected a text of 1 to 256 bytes' USING ERRCODE = '22023';
  ELSIF jsonb_typeof(coalesce(options, '{}')) <> 'object' OR coalesce(options, '{}') - ARRAY['ttl', 'collapse', 'settle',
      'ack_within', 'notify', 'id', 'resync'] <> '{}' THEN
    RAISE 'recado_send: options: expected an object with some of ttl, collapse, settle, ack_within, notify, id, resync'
      USING ERRCODE = '22023';
  ELSIF options ? 'resync' AND jsonb_typeof(options -> 'resync') <> 'boolean' THEN
    RAISE 'recado_send: options: resync: expected true or false' USING ERRCODE = '22023';
  END IF;
  message := (coalesce(options, '{}') - 'resync'
    || jsonb_build_object('rooms', rooms, 'event', event, 'args', coalesce(args, 'null')))::text;
  IF octet_length(message) > 4000000 THEN
    RAISE 'recado_send: args: expected at most 4000000 bytes as JSON' USING ERRCODE = '22023';
  END IF;
  SELECT array_agg(DISTINCT site || '/' || lower(room)) INTO room_keys FROM unnest(rooms) room;
  SELECT bit_or(1::bigint << (hashtext(key) & 63)) INTO room_lanes FROM unnest(room_keys) key;
  -- A savepoint that is rolled back takes its lanes back, too.
  PERFORM set_config('recado.lanes', (room_lanes | __SCHEMA__.recado_outbox_lanes('recado.lanes'))::text, true);
  INSERT INTO __SCHEMA__.recado_outbox (site, rooms, event, body, resync, keys, lanes)
    VALUES (site, rooms, event, message, coalesce((options ->> 'resync')::boolean, false), room_keys, room_lanes)
    RETURNING recado_outbox.id INTO number;
  RETURN number;
END $$;

-- The lanes that a setting of the transaction holds.
CREATE OR REPLACE FUNCTION __SCHEMA__.recado_outbox_lanes(name text) RETURNS bigint
  LANGUAGE sql VOLATILE AS $$ SELECT coalesce(nullif(current_setting(name, true), ''), '0')::bigint $$;

-- Gives a message its place at the commit. The locks of its rooms last until the commit is visible, so the places in a
-- room are in the order of the commits, and who sees one sees those before it. It reads no table: transactions that are
-- SERIALIZABLE do not fail by it.
CREATE OR REPLACE FUNCTION __SCHEMA__.recado_outbox_commit() RETURNS trigger
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Those of all messages of the transaction, locked in their order: no two transactions wait for each other.
  wanted bigint := __SCHEMA__.recado_outbox_lanes('recado.lanes') | NEW.lanes;
  held bigint := __SCHEMA__.recado_outbox_lanes('recado.held_lanes');
BEGIN
  IF wanted & ~held <> 0 THEN
    FOR lane IN 0..63 LOOP
      IF (wanted & ~held) >> lane & 1 = 1 THEN
        PERFORM pg_advisory_xact_lock(__LOCKS__, lane);
      END IF;
    END LOOP;
    PERFORM set_config('recado.held_lanes', (wanted | held)::text, true);
  END IF;
  INSERT INTO __SCHEMA__.recado_outbox_place (id, site, keys, bytes, resync)
    VALUES (NEW.id, NEW.site, NEW.keys, octet_length(NEW.body), NEW.resync);
  -- A reader that sleeps holds this lock. One that goes to sleep gets it after this commit, and looks once more.
  -- Without it a NOTIFY in each transaction would have all of them commit one by one.
  IF NOT pg_try_advisory_xact_lock_shared(__LOCKS__, 64) THEN
    PERFORM pg_notify('recado_outbox', '');
  END IF;
  RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS recado_outbox_commit ON __SCHEMA__.recado_outbox;
CREATE CONSTRAINT TRIGGER recado_outbox_commit AFTER INSERT ON __SCHEMA__.recado_outbox
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION __SCHEMA__.recado_outbox_commit();

-- Two roles without a login: GRANT them to those of the application and of the reader.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[__SENDER_TEXT__, __READER_TEXT__] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON __SCHEMA__.recado_outbox, __SCHEMA__.recado_outbox_place, __SCHEMA__.recado_outbox_version FROM PUBLIC;
REVOKE ALL ON FUNCTION __SCHEMA__.recado_send, __SCHEMA__.recado_outbox_lanes, __SCHEMA__.recado_outbox_commit FROM PUBLIC;
GRANT USAGE ON SCHEMA __SCHEMA__ TO __SENDER__, __READER__;
-- May call the function, and neither read nor change a message.
GRANT EXECUTE ON FUNCTION __SCHEMA__.recado_send TO __SENDER__;
-- May read messages, say what became of them, and delete them; neither write nor change one.
GRANT SELECT, DELETE ON __SCHEMA__.recado_outbox, __SCHEMA__.recado_outbox_place TO __READER__;
GRANT UPDATE ON __SCHEMA__.recado_outbox_place TO __READER__;
GRANT SELECT ON __SCHEMA__.recado_outbox_version TO __READER__;
