# frozen_string_literal: true

require "json"
require "openssl"

module Recado
  # Signs the tokens of users: JWTs with HS256.
  module Token
    LEAST_SECRET_BYTES = 32
    # The claims that the caller's own may not replace.
    FIXED = %w[iss aud sub rooms iat exp].freeze

    module_function

    # See Client#sign_token.
    def sign(settings, user, rooms, expires_in, claims, now: Time.now)
      if settings.token_secret.nil? || settings.token_issuer.nil?
        raise BadInput, "token_secret, token_issuer: expected those of the site."
      end
      raise BadInput, "expires_in: expected whole seconds above 0." unless expires_in.is_a?(Integer) && expires_in.positive?
      raise BadInput, "user: expected the id of a user." unless user.is_a?(Integer) || (user.is_a?(String) && user != "")

      claims = claims.transform_keys(&:to_s)
      raise BadInput, "claims: expected none of #{FIXED.join(", ")}." if FIXED.any? { |name| claims.key?(name) }

      fixed = { "iss" => settings.token_issuer, "aud" => settings.token_audience, "sub" => user.to_s,
                "rooms" => Array(rooms), "iat" => now.to_i, "exp" => now.to_i + expires_in }.compact
      signed = "#{encode('{"alg":"HS256","typ":"JWT"}')}.#{encode(json(claims.merge(fixed)))}"
      "#{signed}.#{encode(OpenSSL::HMAC.digest("SHA256", settings.token_secret.reveal, signed))}"
    end

    def encode(bytes)
      [bytes].pack("m0").tr("+/", "-_").delete("=")
    end

    def json(claims)
      JSON.generate(claims)
    rescue JSON::GeneratorError, JSON::NestingError, EncodingError => e
      raise BadInput, "claims: #{e.message[0, 200]}", cause: nil
    end
    private_class_method :encode, :json
  end
end
