# frozen_string_literal: true

require_relative "recado/version"
require_relative "recado/errors"
require_relative "recado/secret"
require_relative "recado/retries"
require_relative "recado/settings"
require_relative "recado/transport"
require_relative "recado/caller"
require_relative "recado/webhook"
require_relative "recado/token"
require_relative "recado/auth_answer"
require_relative "recado/client"

# Sends messages to the browsers of a site through a Recado server: see Recado::Client.
module Recado
  class << self
    # The client of the application, for code that is handed none: jobs, models. See Recado.configure.
    attr_writer :client

    def client
      @client || raise(BadInput, "Recado.client: expected Recado.configure(url: ..., site: ..., api_key: ...) before.")
    end

    # Makes the client of the application from these settings; see Client#initialize.
    def configure(**settings)
      self.client = Client.new(**settings)
    end

    # The answer to a request of Recado to authUrl, with `status`, `headers` and `body`. `rooms` are those of the user, with
    # the user room; nil: the token names nobody.
    def auth_answer(rooms)
      AuthAnswer.of(rooms)
    end
  end
end

require_relative "recado/rails" if defined?(Rails::Railtie)
