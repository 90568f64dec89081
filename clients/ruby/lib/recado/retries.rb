# frozen_string_literal: true

module Recado
  # Decides whether a request is repeated, and when. The pause grows from 0.2 s to 5 s by doubling and is shortened by
  # chance by up to a half, so that callers that failed together do not come back together.
  class Retries
    STATUSES = [408, 429, 500, 502, 503, 504].freeze
    FIRST_PAUSE_SECONDS = 0.2
    MOST_PAUSE_SECONDS = 5.0

    attr_reader :attempt_seconds, :deadline_seconds

    def initialize(attempt_timeout, deadline, retries)
      @attempt_seconds = seconds("attempt_timeout", attempt_timeout)
      @deadline_seconds = seconds("deadline", deadline)
      unless retries.is_a?(Integer) && retries.between?(0, 1000)
        raise BadInput, "retries: expected a number from 0 to 1000."
      end

      @retries = retries
    end

    # Whether an answer of this status may be another one in a moment.
    def self.passing?(status)
      STATUSES.include?(status)
    end

    # The pause before the next attempt; nil: there is none. `attempts` were made, `left_seconds` are left to the deadline,
    # `retry_after` is the header of the answer, `chance` is from 0 to 1.
    def pause(attempts, left_seconds, retry_after, chance)
      return if attempts > @retries

      grown = [MOST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**(attempts - 1)].min
      asked = /\A\d+\z/.match?(retry_after.to_s) ? retry_after.to_f : 0.0
      pause = [asked, grown * (0.5 + chance / 2)].max
      pause if pause < left_seconds
    end

    private

    def seconds(name, value)
      return value.to_f if value.is_a?(Numeric) && value.positive? && value <= 86_400

      raise BadInput, "#{name}: expected seconds above 0."
    end
  end
end
