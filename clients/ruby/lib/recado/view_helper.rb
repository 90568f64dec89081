# frozen_string_literal: true

module Recado
  # Helpers of views.
  module ViewHelper
    # The script of the Socket.IO client that the server offers.
    def recado_client_tag(**options)
      javascript_include_tag("#{Recado.client.url}/socket.io/socket.io.js?v=4", **options)
    end

    # The address and the token for the page's script, as data attributes of a meta element:
    # document.querySelector("meta[name=recado]").dataset has url (with the site) and token.
    def recado_meta_tag(token: nil)
      data = { url: "#{Recado.client.url}/#{Recado.client.site}", token: token }.compact
      tag.meta(name: "recado", data: data)
    end
  end
end
