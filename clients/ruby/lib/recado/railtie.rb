# frozen_string_literal: true

require "rails/railtie"
require "active_support/ordered_options"

module Recado
  # Makes Recado.client of a Rails application from config.recado, or else from RECADO_URL, RECADO_SITE, RECADO_API_KEY and the
  # others of these names, and gives views Recado::ViewHelper.
  #
  #   # config/initializers/recado.rb
  #   Rails.application.config.recado.site = "shop"
  #   Rails.application.config.recado.api_key = Rails.application.credentials.recado_api_key
  class Railtie < ::Rails::Railtie
    NAMES = %i[url site api_key webhook_secret token_secret token_issuer token_audience].freeze

    config.recado = ActiveSupport::OrderedOptions.new

    initializer "recado.client", after: :load_config_initializers do |app|
      named = NAMES.to_h { |name| [name, ENV["RECADO_#{name.to_s.upcase}"]] }.reject { |_, value| value.to_s.empty? }
      settings = named.merge(app.config.recado.to_h.compact)
      # Without a key (assets are compiled so, for instance) there is no client, and its first use says that.
      Recado.configure(**settings) if settings.key?(:api_key)
    end

    initializer "recado.views" do
      ActiveSupport.on_load(:action_view) { include Recado::ViewHelper }
    end
  end
end
