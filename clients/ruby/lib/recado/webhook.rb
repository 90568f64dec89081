# frozen_string_literal: true

require "json"
require "openssl"

module Recado
  # Checks webhooks in the form of Standard Webhooks.
  module Webhook
    MOST_BYTES = 1_048_576
    MOST_SIGNATURES = 32
    # How far the time of a request may be from ours, before and after.
    TOLERANCE_SECONDS = 300

    module_function

    # See Client#verify_webhook.
    def verify(body, headers, secrets, now: Time.now)
      keys = secrets.map { |secret| key_of(secret) }
      raise BadInput, "webhook_secret: expected the secret of the webhook." if keys.empty?
      raise BadWebhook, "The webhook is longer than 1 MB." if body.bytesize > MOST_BYTES

      id, at, signatures = %w[webhook-id webhook-timestamp webhook-signature].map { |name| header(headers, name) }
      unless /\A\d{1,12}\z/.match?(at) && (now.to_i - at.to_i).abs <= TOLERANCE_SECONDS
        raise BadWebhook, "The time of the webhook is too far from ours."
      end
      unless signed?("#{id}.#{at}.".b + body.b, signatures.split(" ", MOST_SIGNATURES + 1).first(MOST_SIGNATURES), keys)
        raise BadWebhook, "The webhook is signed by another secret, or was changed."
      end

      events(body)
    end

    def signed?(content, signatures, keys)
      keys.product(signatures).map do |key, signature|
        equal?("v1,#{[OpenSSL::HMAC.digest("SHA256", key, content)].pack("m0")}", signature)
      end.any?
    end

    # Takes the same time wherever the texts differ. (OpenSSL has such a function only from Ruby 3.0 on.)
    def equal?(expected, given)
      return false unless expected.bytesize == given.bytesize

      expected.bytes.zip(given.bytes).reduce(0) { |differing, (one, other)| differing | (one ^ other) }.zero?
    end

    def events(body)
      told = JSON.parse(body.dup.force_encoding(Encoding::UTF_8))
      found = told.is_a?(Hash) && told["data"].is_a?(Hash) && told["data"]["events"]
      found.is_a?(Array) ? found : raise(BadWebhook, "The webhook has no events.")
    rescue JSON::ParserError, EncodingError
      raise BadWebhook, "The webhook is no JSON.", cause: nil
    end

    def key_of(secret)
      secret.reveal.delete_prefix("whsec_").unpack1("m")
    end

    def header(headers, name)
      headers.each do |given, value|
        plain = given.to_s.downcase.tr("_", "-").delete_prefix("http-")
        # Bytes: a text that is no UTF-8 raises where it is looked at.
        return Array(value).first.to_s.b if plain == name
      end
      raise BadWebhook, "The webhook has no #{name}."
    end
    private_class_method :signed?, :equal?, :events, :key_of, :header
  end
end
