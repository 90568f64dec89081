# frozen_string_literal: true

require "json"
require "securerandom"
require "uri"

module Recado
  # Makes a request, and repeats it until it is answered or its time is over.
  class Caller
    MOST_REASON_BYTES = 500
    LEAST_SECONDS = 0.001

    def initialize(settings, transport)
      @settings = settings
      @transport = transport
    end

    # Sends a message, or a batch of them; the answer, and whether an earlier request had stored it. `waits` are the seconds
    # that the server waits before its answer.
    def post_once(path, query, body, key, waits = 0.0)
      key = key.nil? ? SecureRandom.hex(16) : key
      unless key.is_a?(String) && /\A[\x20-\x7e]{1,128}\z/.match?(key)
        raise BadInput, "idempotency_key: expected 1 to 128 printable characters."
      end

      response = call("POST", path, query, body, { "Idempotency-Key" => key }, waits)
      [decoded(response), response.header("Idempotent-Replayed").to_s.casecmp?("true")]
    rescue Unreachable => e
      e.idempotency_key = key
      raise
    end

    # Makes any other request. A repeat does no harm.
    def ask(verb, path, query: {}, body: nil)
      decoded(call(verb, path, query, body))
    end

    def inspect
      "#<Recado::Caller #{@settings.inspect}>"
    end

    private

    def call(verb, path, query, body, headers = {}, waits = 0.0)
      request = request_of(verb, path, query, body, headers)
      retries = @settings.retries
      deadline = now + retries.deadline_seconds + waits
      attempts = 0
      loop do
        # At least a moment: to net/http and Timeout, 0 is no time-out at all.
        outcome = attempt(request, [[retries.attempt_seconds + waits, deadline - now].min, LEAST_SECONDS].max)
        return outcome if outcome.is_a?(Response) && outcome.status == 200

        pause = pause_after(outcome, attempts += 1, deadline - now)
        raise(outcome.is_a?(Response) ? refusal(outcome, attempts) : outcome) if pause.nil?

        sleep(pause)
      end
    end

    def request_of(verb, path, query, body, headers)
      target = "#{@settings.url.path}#{path}?#{URI.encode_www_form({ "site" => @settings.site }.merge(query))}"
      kind = body ? { "Content-Type" => "application/json" } : {}
      common = { "Accept" => "application/json", "User-Agent" => "recado-ruby" }
      Request.new(verb, target, @settings.api_key, common.merge(kind, headers), body)
    end

    def attempt(request, seconds)
      @transport.send_request(request, seconds)
    rescue Unreachable => e
      Unreachable.new(@settings.api_key.hide_in(e.message))
    end

    def pause_after(outcome, attempts, left_seconds)
      is_answer = outcome.is_a?(Response)
      return if is_answer && !Retries.passing?(outcome.status)

      @settings.retries.pause(attempts, left_seconds, is_answer ? outcome.header("Retry-After") : nil, rand)
    end

    def refusal(response, attempts)
      said = parsed(response.body)
      said = {} unless said.is_a?(Hash)
      text = said["error"].is_a?(String) ? said["error"] : response.body
      text = text.byteslice(0, MOST_REASON_BYTES).scrub.gsub(/[^\x20-\x7e]+/, " ")
      text = @settings.api_key.hide_in("Recado answered #{response.status}: #{text}")
      Refused.new(text, response.status, said["code"].is_a?(String) ? said["code"] : nil, attempts)
    end

    def decoded(response)
      value = parsed(response.body)
      return value if value.is_a?(Hash) || value.is_a?(Array)

      raise BadAnswer, "The answer is no JSON of Recado."
    end

    def parsed(text)
      JSON.parse(text)
    rescue JSON::ParserError, EncodingError
      nil
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
