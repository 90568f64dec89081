# frozen_string_literal: true

require "openssl"

# The parts that Rails itself would bring.
class ApplicationController
  # A real site has a secret of its own here, out of its credentials.
  SECRET_KEY_BASE = "put-another-secret-of-your-own-here"

  class Unprocessable < StandardError; end

  attr_reader :params, :headers

  def initialize(params, headers)
    @params = params
    @headers = headers
  end

  private

  # The token of a user's page. A real site has its sessions in the place of this.
  def token_of(user)
    "#{user}.#{OpenSSL::HMAC.hexdigest("SHA256", SECRET_KEY_BASE, user)}"
  end

  # The user whose token it is; nil: nobody's.
  def user_of(token)
    user = token.to_s.split(".").first.to_s
    expected = token_of(user)
    user if expected.bytesize == token.to_s.bytesize && OpenSSL.fixed_length_secure_compare(expected, token)
  end

  def user(given)
    raise Unprocessable unless given.is_a?(String) && /\A\w{1,64}\z/.match?(given)

    given
  end
end
