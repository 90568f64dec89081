# frozen_string_literal: true

RECADO_URL = ENV.fetch("RECADO_URL", "http://127.0.0.1:1337")

# In Rails: Rails.application.config.recado.url = ...
Recado.configure(url: RECADO_URL, site: "rails-style", api_key: "put-a-key-of-your-own-here")
