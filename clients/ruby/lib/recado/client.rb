# frozen_string_literal: true

require "json"

module Recado
  # A message that is stored: its `id`; `recipients`, the devices it is stored for; `replayed`, whether an earlier request of
  # the same idempotency_key had stored it; with `wait` the devices that have `acked` it, and those `waiting`.
  Sent = Struct.new(:id, :recipients, :replayed, :acked, :waiting)

  # One site of a Recado server, as its backend sees it. A client may live as long as the process and be used by several
  # threads; it keeps no connection.
  #
  #   recado = Recado::Client.new(url: "https://push.example.com", site: "shop", api_key: ENV["RECADO_API_KEY"])
  #   recado.send_message("user_8", "news", [{ id: 3 }], ttl: 3600)
  #
  # Every request is repeated until it is answered (see Retries). A message is stored once all the same, by its
  # idempotency_key. Methods raise Refused, Unreachable and BadAnswer, and BadInput before anything is sent.
  class Client
    # The options of a message, by the names of the query of /send.
    MESSAGE_OPTIONS = %i[ttl collapse settle ack_within wait timeout notify id resync].freeze
    BATCH_OPTIONS = (MESSAGE_OPTIONS - %i[wait timeout resync]).freeze
    MOST_BATCH = 100

    # `settings` are url, site and api_key; webhook_secret (a text, or a list while it is changed); token_secret,
    # token_issuer and token_audience (those of the site's jwt); attempt_timeout (10 s), deadline (30 s), retries (4);
    # ca_file. `transport` is another way to the server than net/http, see Transport.
    def initialize(transport: nil, **settings)
      @settings = Settings.new(**settings)
      @caller = Caller.new(@settings, transport || Transport.new(@settings.url, ca_file: @settings.ca_file))
    end

    # Sends an event to a room or to several. When this returns the message is stored for every addressed device. `args` is
    # the list of arguments; any other value is the one argument; nil unless given. `options` are those of /send by their
    # names, and idempotency_key. Returns a Sent.
    def send(rooms, event, args = [nil], idempotency_key: nil, **options)
      query = query_of(options, MESSAGE_OPTIONS)
      waits = options[:wait] ? (options[:timeout] || 5).to_f : 0.0
      answer, replayed = @caller.post_once("/send", query, json(message_of(rooms, event, args)), idempotency_key, waits)
      sent_of(answer, replayed)
    end
    # The same under a name that Object does not have.
    alias send_message send

    # Sends up to 100 messages, each a Hash with rooms, event, args and options; the accepted ones are in the queues in this
    # order. Returns a list of Hashes: "ok", and "id", or "error" with its "status".
    def send_batch(messages, idempotency_key: nil)
      unless messages.is_a?(Array) && messages.size.between?(1, MOST_BATCH)
        raise BadInput, "messages: expected a list of 1 to #{MOST_BATCH}."
      end

      body = json(messages.map { |message| batched(message) })
      answers, = @caller.post_once("/send/batch", {}, body, idempotency_key)
      return answers if answers.is_a?(Array) && answers.size == messages.size

      raise BadAnswer, "The answer to a batch has another number of messages."
    end

    # The fate of a message: its "summary", and its "devices", at most `limit` of them, the rest by `cursor`.
    def message(id, **options)
      @caller.ask("GET", path_of(id), query: query_of(options, %i[limit cursor bodies]))
    end
    alias receipt message

    # Takes a message out of every queue; answers how many devices had it.
    def withdraw(id)
      number(@caller.ask("DELETE", path_of(id)), "devices")
    rescue Refused => e
      # The attempt before, whose answer was lost, may have taken the message away.
      raise unless e.status == 404 && e.attempts > 1

      0
    end

    # Ends the connections that all given fields name; answers how many. `text` is the reason for the clients.
    def disconnect(user: nil, device: nil, room: nil, text: nil, reconnect: nil)
      which = { user: user, device: device, room: room, text: text, reconnect: reconnect }.compact
      number(@caller.ask("POST", "/disconnect", body: json(which)), "disconnected")
    end

    # Lets a user, named by the user room, join and leave rooms with all devices; answers how many devices.
    def move_rooms(user, join: [], leave: [])
      number(@caller.ask("POST", "/rooms", body: json({ user: user, join: Array(join), leave: Array(leave) })), "devices")
    end

    # The events of a webhook, when its signature and its time are right; raises BadWebhook otherwise. `body` is the text as
    # it came; `headers` may have names in any case, or be the environment of Rack.
    def verify_webhook(body, headers)
      Webhook.verify(body, headers, @settings.webhook_secrets)
    end

    # A token of the user (the claim sub, without the userRoomPrefix), that the site checks by itself (its jwt).
    def sign_token(user, rooms: [], expires_in: 600, claims: {})
      Token.sign(@settings, user, rooms, expires_in, claims)
    end

    # See Recado.auth_answer.
    def auth_answer(rooms)
      AuthAnswer.of(rooms)
    end

    # The address of the server, for pages; and the name of the site.
    def url
      @settings.url.to_s
    end

    def site
      @settings.site
    end

    def inspect
      "#<Recado::Client url=#{@settings.url.to_s.inspect} site=#{@settings.site.inspect} api_key=#{Secret::HIDDEN}>"
    end

    # No part of a client is for JSON: Rails would write out every variable.
    def as_json(*)
      inspect
    end

    private

    def message_of(rooms, event, args)
      raise BadInput, "event: expected a name." unless (event.is_a?(String) || event.is_a?(Symbol)) && !event.empty?

      { rooms: checked_rooms(rooms), event: event, args: args }
    end

    def checked_rooms(rooms)
      list = rooms.is_a?(Array) ? rooms : [rooms]
      return list if list.all? { |room| room.is_a?(Integer) || (room.respond_to?(:to_str) && !room.empty?) }

      raise BadInput, "rooms: expected names of rooms."
    end

    def batched(message)
      raise BadInput, "messages: expected Hashes with rooms and event." unless message.is_a?(Hash)

      message = message.transform_keys(&:to_sym)
      options = message.reject { |name, value| %i[rooms event args].include?(name) || value.nil? }
      check(options, BATCH_OPTIONS)
      message_of(message[:rooms], message[:event], message.fetch(:args, [nil])).merge(options)
    end

    def query_of(options, known)
      check(options, known)
      options.compact.to_h do |name, value|
        plain = [String, Symbol, Numeric, true, false].any? { |kind| kind === value }
        plain ? [name.to_s, value.to_s] : raise(BadInput, "#{name}: expected a text or a number.")
      end
    end

    def check(options, known)
      unknown = options.keys.find { |name| !known.include?(name) }
      raise BadInput, "#{unknown.to_s[0, 64]}: expected one of #{known.join(", ")}." if unknown
    end

    def path_of(id)
      return "/messages/#{id}" if /\A\d{1,20}\z/.match?(id.to_s)

      raise BadInput, "id: expected the id of a message, in digits."
    end

    def json(value)
      # Rails writes models and times by as_json.
      JSON.generate(value.respond_to?(:as_json) ? value.as_json : value)
    rescue JSON::GeneratorError, JSON::NestingError, EncodingError => e
      raise BadInput, "The message: #{e.message[0, 200]}", cause: nil
    end

    def sent_of(answer, replayed)
      numbers = answer.is_a?(Hash) ? answer.values_at("recipients", "acked", "waiting") : []
      unless numbers.first.is_a?(Integer) && answer["id"].is_a?(String)
        raise BadAnswer, "The answer has no id of the message."
      end

      Sent.new(answer["id"], numbers[0], replayed, numbers[1], numbers[2])
    end

    def number(answer, name)
      return answer[name] if answer.is_a?(Hash) && answer[name].is_a?(Integer)

      raise BadAnswer, "The answer has no number of #{name}."
    end
  end
end
