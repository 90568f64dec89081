# frozen_string_literal: true

# The driver of the Ruby package for the table of cases; see tests/packages/languages.py.

require "json"
require "pp"
require_relative "../../../clients/ruby/lib/recado"

KINDS = {
  Recado::Refused => "refused",
  Recado::Unreachable => "unreachable",
  Recado::BadAnswer => "bad_answer",
  Recado::BadWebhook => "bad_webhook",
  Recado::BadInput => "bad_input"
}.freeze

def positional(with, *names)
  rest = with.reject { |name, _| names.include?(name) }
  [names.select { |name| with.key?(name) }.map { |name| with[name] }, rest.transform_keys(&:to_sym)]
end

def answer(client, call, with)
  case call
  when "send"
    given, options = positional(with, "rooms", "event", "args")
    client.send(*given, **options).to_h.compact
  when "send_batch", "message", "receipt", "withdraw", "move_rooms", "sign_token"
    given, options = positional(with, { "send_batch" => "messages", "move_rooms" => "user", "sign_token" => "user" }[call] || "id")
    client.public_send(call, *given, **options)
  when "disconnect" then client.disconnect(**with.transform_keys(&:to_sym))
  when "verify_webhook" then client.verify_webhook(with["body"], with["headers"])
  when "auth_answer" then client.auth_answer(with["rooms"]).to_h
  when "describe" then "#{client.inspect} #{client} #{client.pretty_inspect} #{client.as_json} #{inside(client)}"
  end
end

# What a debugger shows: every variable, at any depth.
def inside(object)
  object.instance_variables.map { |name| value = object.instance_variable_get(name); value.inspect + inside(value) }.join
end

$stdout.sync = true
$stdin.each_line do |line|
  asked = JSON.parse(line)
  begin
    client = Recado::Client.new(**asked["client"].transform_keys(&:to_sym))
    result = { result: answer(client, asked["call"], asked["with"]) }
  rescue Recado::Error, ArgumentError, TypeError => e
    # A value of another type than a method takes is refused by the language.
    result = { error: { kind: KINDS.fetch(e.class, "bad_input"), text: e.message } }
    result[:error].merge!(status: e.status, code: e.code) if e.is_a?(Recado::Refused)
  end
  $stdout.puts(JSON.generate(result))
end
