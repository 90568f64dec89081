# frozen_string_literal: true

require "active_support"
require "active_support/concern"

module Recado
  # Tells of a model's changes when they are committed, never before:
  #
  #   class Order < ApplicationRecord
  #     include Recado::Broadcasts
  #     broadcasts_to_recado ->(order) { "user_#{order.user_id}" }, with: ->(order) { { id: order.id, state: order.state } }
  #   end
  #
  # The page gets "order.created", "order.updated" and "order.destroyed", each with one argument.
  module Broadcasts
    extend ActiveSupport::Concern

    PAST = { create: "created", update: "updated", destroy: "destroyed" }.freeze

    class_methods do
      # `rooms` and `with` are a method of the model or a block that gets it; `event` replaces the name; `options` are those
      # of /send. The message goes through SendJob, whose queue waits while the server is away.
      def broadcasts_to_recado(rooms, event: nil, on: PAST.keys, with: :as_json, **options)
        Array(on).each do |action|
          name = (event || "#{model_name.param_key}.#{PAST.fetch(action)}").to_s
          after_commit(on: action) do
            target, payload = [rooms, with].map { |wanted| wanted.respond_to?(:call) ? wanted.call(self) : public_send(wanted) }
            SendJob.perform_later(target, name, [payload.as_json], options) if target.present?
          end
        end
      end
    end
  end
end
