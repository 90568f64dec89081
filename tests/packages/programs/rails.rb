# frozen_string_literal: true

# A Rails application of the framework's own libraries: models tell of their changes after the commit, jobs are repeated,
# a controller takes a webhook, a view names the client. Arguments: the settings, the room of a user, a webhook's body and its
# headers, in JSON. It prints what it has seen.

require "json"
require "logger"
require "rails"
require "active_record/railtie"
require "active_job/railtie"
require "action_controller/railtie"
require "rack/mock"
require_relative "../../../clients/ruby/lib/recado"

SETTINGS, ROOM, BODY, HEADERS = ARGV
ENV["DATABASE_URL"] = "sqlite3::memory:"

class Shop < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.secret_key_base = "only for this program"
  config.logger = Logger.new($stderr)
  config.active_job.queue_adapter = :inline
  config.hosts.clear
  JSON.parse(SETTINGS).each { |name, value| config.recado[name] = value }
end

Shop.initialize!

class EventsController < ActionController::Base
  include Recado::WebhookRequests

  def create
    render json: recado_events
  end
end

class PagesController < ActionController::Base
  def show
    render inline: '<%= recado_client_tag %><%= recado_meta_tag(token: "of the user") %>'
  end
end

Shop.routes.draw do
  post "/recado-events", to: "events#create"
  get "/", to: "pages#show"
end

ActiveRecord::Base.logger = nil
ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define { create_table(:orders) { |table| table.string :state } }

class Order < ActiveRecord::Base
  include Recado::Broadcasts

  broadcasts_to_recado ->(_order) { ROOM }, with: ->(order) { { id: order.id, state: order.state } }, ttl: 60
end

told = {}
order = Order.create!(state: "new")
Order.transaction do
  order.update!(state: "never")
  raise ActiveRecord::Rollback
end
order.reload.update!(state: "paid")
order.destroy!

job = Recado::SendJob.new(ROOM, "job", [{ at: Time.utc(2026, 1, 2) }], id: true)
sent = Array.new(2) { job.perform_now }
told[:job] = [sent[0].id == sent[1].id, sent[1].replayed]
begin
  Recado::SendJob.perform_now(ROOM, "_batch")
rescue Recado::Refused => e
  told[:refused] = e.status
end

# A server that is away: the job waits in its queue, with the text of the message in no log.
server = Recado.client
Recado.configure(**JSON.parse(SETTINGS).transform_keys(&:to_sym), url: "http://127.0.0.1:9", retries: 0)
Recado::SendJob.queue_adapter = ActiveJob::QueueAdapters::TestAdapter.new
waiting = Recado::SendJob.new(ROOM, "later")
waiting.perform_now
told[:later] = Recado::SendJob.queue_adapter.enqueued_jobs.map { |one| [one["job_id"] == waiting.job_id, one[:at].to_f > Time.now.to_f] }
Recado.client = server

answers = [BODY, "#{BODY} "].map do |body|
  headers = JSON.parse(HEADERS).transform_keys { |name| "HTTP_#{name.upcase.tr("-", "_")}" }
  Rack::MockRequest.new(Shop).post("/recado-events", headers.merge(input: body, "CONTENT_TYPE" => "application/json"))
end
told[:events] = [JSON.parse(answers[0].body), answers[1].status]
told[:page] = Rack::MockRequest.new(Shop).get("/").body
told[:client] = Recado.client.inspect + Recado.client.to_json
puts JSON.generate(told)
