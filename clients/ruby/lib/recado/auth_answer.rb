# frozen_string_literal: true

require "json"

module Recado
  # The answer to a request of Recado to authUrl: its rooms, or that the token names nobody.
  AuthAnswer = Struct.new(:status, :headers, :body) do
    # The answer of a Rack application.
    def to_rack
      [status, headers, [body]]
    end
  end

  class AuthAnswer
    MOST_ROOMS = 10_000
    MOST_ROOM_BYTES = 1_000

    class << self
      # See Recado.auth_answer.
      def of(rooms)
        headers = { "content-type" => "application/json", "cache-control" => "no-store" }
        return new(401, headers, '{"error":"unknown token"}') if rooms.nil?

        unless rooms.is_a?(Array) && rooms.size <= MOST_ROOMS
          raise BadInput, "rooms: expected a list of at most #{MOST_ROOMS}."
        end

        new(200, headers, JSON.generate(rooms.each { |room| check(room) }))
      rescue JSON::GeneratorError, EncodingError
        raise BadInput, "rooms: expected texts in UTF-8.", cause: nil
      end

      # The token of a request of Recado: the part behind authScheme in the header Authorization; nil without one.
      def token_of(authorization)
        token = authorization.to_s.strip.split(" ", 2).last.to_s.strip
        token.empty? ? nil : token
      end

      private

      def check(room)
        return if room.is_a?(Integer) || ([String, Symbol].include?(room.class) && room.to_s.bytesize.between?(1, MOST_ROOM_BYTES))

        raise BadInput, "rooms: expected texts of at most #{MOST_ROOM_BYTES} bytes."
      end
    end
  end
end
