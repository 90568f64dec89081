# frozen_string_literal: true

# A backend built as a Rails application is: routes, controllers, a model that tells of its notes. It runs without the
# framework, and its page shows notes: each note reaches the browsers of its user.
#
#   recado serve --host 127.0.0.1 --sites examples/rails-style/sites.yml
#   cd examples/rails-style
#   ruby server.rb
#
# Then open http://127.0.0.1:8005/?user=alice in two windows and send a note.

require "json"
require "socket"
require_relative "../../clients/ruby/lib/recado"
require_relative "app/controllers/application_controller"
require_relative "app/controllers/notes_controller"
require_relative "app/controllers/recado_controller"
require_relative "app/models/note"
require_relative "config/initializers/recado"
require_relative "config/routes"

MOST_BODY_BYTES = 10_000

# One request of HTTP/1.1 and its answer, in the place of Rails' own server.
def serve(socket)
  verb, target = socket.gets("\n", 8_192).to_s.split
  return if target.nil?

  headers = {}
  while (line = socket.gets("\r\n", 8_192).to_s.chomp) != ""
    name, value = line.split(":", 2)
    headers[name.downcase] = value.to_s.strip
  end
  path, query = target.split("?", 2)
  body = socket.read(headers["content-length"].to_i.clamp(0, MOST_BODY_BYTES))
  status, kind, text = answer("#{verb} #{path}", URI.decode_www_form(query.to_s).to_h, headers, body)
  head = ["HTTP/1.1 #{status}", "Content-Type: #{kind}", "Content-Length: #{text.bytesize}", "Connection: close"]
  socket.write(head.join("\r\n"), "\r\n\r\n", text)
end

def answer(route, params, headers, body)
  controller, action = ROUTES[route]
  return [404, "text/plain", ""] if controller.nil?

  params = params.merge(JSON.parse(body)) if headers["content-type"] == "application/json"
  controller.new(params, headers).public_send(action)
rescue ApplicationController::Unprocessable, JSON::ParserError, TypeError
  [422, "text/plain", ""]
rescue Recado::Error => error
  warn error.message
  [502, "text/plain", error.message]
end

server = TCPServer.new("127.0.0.1", Integer(ENV.fetch("PORT", "8005")))
trap("TERM") { exit }
loop do
  Thread.new(server.accept) do |socket|
    serve(socket)
  rescue SystemCallError, IOError
    # The browser has left.
  ensure
    socket.close
  end
end
