# frozen_string_literal: true

require "uri"

module Recado
  # The settings of a client, checked; its secrets are in no inspection.
  class Settings
    attr_reader :url, :site, :api_key, :webhook_secrets, :token_secret, :token_issuer, :token_audience, :retries, :ca_file

    def initialize(url:, site:, api_key:, webhook_secret: nil, token_secret: nil, token_issuer: nil, token_audience: nil,
                   attempt_timeout: 10, deadline: 30, retries: 4, ca_file: nil)
      @url = checked_url(url)
      @site = text("site", site)
      @api_key = Secret.new(checked_key(text("api_key", api_key)))
      @webhook_secrets = Array(webhook_secret).map { |secret| Secret.new(checked_webhook_secret(secret)) }
      @token_secret = token_secret && Secret.new(checked_token_secret(token_secret))
      @token_issuer = token_issuer
      @token_audience = token_audience
      @retries = Retries.new(attempt_timeout, deadline, retries)
      @ca_file = ca_file
    end

    def inspect
      "#<Recado::Settings url=#{url.to_s.inspect} site=#{site.inspect} api_key=#{Secret::HIDDEN}>"
    end

    private

    def text(name, value)
      value = value.to_s if value.is_a?(Integer)
      return value if value.is_a?(String) && !value.empty?

      raise BadInput, "#{name}: expected a text."
    end

    def checked_key(key)
      return key if /\A[\x21-\x7e]+\z/.match?(key)

      raise BadInput, "api_key: expected printable characters of ASCII without spaces."
    end

    def checked_webhook_secret(value)
      return value if value.is_a?(String) && %r{\Awhsec_[A-Za-z0-9+/]+={0,2}\z}.match?(value)

      raise BadInput, "webhook_secret: expected whsec_ and Base64."
    end

    def checked_token_secret(value)
      return value if value.is_a?(String) && value.bytesize >= Token::LEAST_SECRET_BYTES

      raise BadInput, "token_secret: expected #{Token::LEAST_SECRET_BYTES} bytes or more."
    end

    def checked_url(value)
      url = URI.parse(value.to_s.sub(%r{/+\z}, ""))
      return url if url.is_a?(URI::HTTP) && url.host && !url.userinfo && !url.query && !url.fragment

      raise URI::InvalidURIError
    rescue URI::InvalidURIError
      raise BadInput, "url: expected http:// or https:// and the host of the server, without a query.", cause: nil
    end
  end
end
