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
  # The parts for Rails, which need its libraries.
  autoload :Broadcasts, File.join(__dir__, "recado/broadcasts")
  autoload :SendJob, File.join(__dir__, "recado/send_job")
  autoload :ViewHelper, File.join(__dir__, "recado/view_helper")
  autoload :WebhookRequests, File.join(__dir__, "recado/webhook_requests")

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

require_relative "recado/railtie" if defined?(Rails::Railtie)
