# A backend that signs by the published rules with Ruby's own OpenSSL, as Pusher's gem does: its registry may be out of
# reach. Reads an order as JSON, and writes the outcome of each of its calls.
require 'digest/md5'
require 'json'
require 'net/http'
require 'openssl'
require 'uri'

ORDER = JSON.parse($stdin.read)

def ask(verb, rest, params, body = nil)
  path = "/apps/#{ORDER['app_id']}#{rest}"
  auth = { 'auth_version' => '1.0', 'auth_key' => ORDER['key'], 'auth_timestamp' => Time.now.to_i.to_s }
  auth['body_md5'] = Digest::MD5.hexdigest(body) if body
  fields = params.merge(auth).to_h { |name, value| [name.downcase, value] }
  text = fields.sort.map { |name, value| "#{name}=#{value}" }.join('&')
  signature = OpenSSL::HMAC.hexdigest('SHA256', ORDER['secret'], [verb, path, text].join("\n"))
  query = URI.encode_www_form(fields.merge('auth_signature' => signature))
  kind = verb == 'GET' ? Net::HTTP::Get : Net::HTTP::Post
  request = kind.new("#{path}?#{query}", 'Content-Type' => 'application/json')
  request.body = body if body
  answer = Net::HTTP.start(ORDER['host'], ORDER['port'], read_timeout: 30) { |http| http.request(request) }
  return { value: JSON.parse(answer.body) } if answer.code == '200'

  { status: answer.code.to_i, text: answer.body }
end

def encoded(data)
  data.is_a?(String) ? data : JSON.generate(data)
end

def trigger(channels, event, data, more = {})
  event = { name: event, channels: Array(channels), data: encoded(data) }
  ask('POST', '/events', {}, JSON.generate(more.merge(event)))
end

def batch(events)
  encoded_events = events.map { |event| event.merge('data' => encoded(event['data'])) }
  ask('POST', '/batch_events', {}, JSON.generate({ batch: encoded_events }))
end

CALLS = {
  'trigger' => method(:trigger),
  'batch' => method(:batch),
  'channels' => ->(params) { ask('GET', '/channels', params) },
  'channel' => ->(channel, params) { ask('GET', "/channels/#{channel}", params) },
  'users' => ->(channel) { ask('GET', "/channels/#{channel}/users", {}) },
  'to_user' => ->(user, event, data) { trigger("#server-to-user-#{user}", event, data) },
  'terminate' => ->(user) { ask('POST', "/users/#{user}/terminate_connections", {}, '{}') }
}.freeze

puts JSON.generate(ORDER['calls'].map { |name, *args| CALLS[name].call(*args) })
