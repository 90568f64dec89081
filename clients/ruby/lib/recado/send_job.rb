# frozen_string_literal: true

require "active_job"

module Recado
  # Sends a message from a queue: Recado::SendJob.perform_later("user_8", "news", [{ id: 3 }], ttl: 3600). A repeated job
  # sends it once, by the id of the job. While the server is away the job waits, longer each time, for four to five hours.
  class SendJob < ActiveJob::Base
    MOST_EXECUTIONS = 10
    # The log of ActiveJob would have the text of messages.
    self.log_arguments = false if respond_to?(:log_arguments=)

    rescue_from(Refused, Unreachable) do |error|
      raise error unless passing?(error) && executions < MOST_EXECUTIONS

      retry_job(wait: (executions**4 + 2) * (1 + rand / 4), error: error)
    end

    def perform(rooms, event, args = [nil], options = {})
      # The queue may hand the job over to a second process while the first still sends it.
      Recado.client.send_message(rooms, event, args, **{ idempotency_key: "job-#{job_id}" }, **options.to_h.symbolize_keys)
    end

    private

    def passing?(error)
      !error.is_a?(Refused) || Retries.passing?(error.status)
    end
  end
end
