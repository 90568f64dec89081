# frozen_string_literal: true

require "active_support"
require "active_support/concern"

module Recado
  # For the controller to which the site's webhook leads: only signed requests pass, and their events are in `recado_events`.
  module WebhookRequests
    extend ActiveSupport::Concern

    included do
      skip_forgery_protection(raise: false) if respond_to?(:skip_forgery_protection)
      before_action :verify_recado_webhook
    end

    private

    def recado_events
      @recado_events
    end

    def verify_recado_webhook
      @recado_events = Recado.client.verify_webhook(request.raw_post, request.env)
    rescue BadWebhook
      head :bad_request
    end
  end
end
