# frozen_string_literal: true

module Recado
  # Error
  # ├── Refused       the server has answered with an error
  # ├── Unreachable   no answer, or not in time
  # ├── BadAnswer     an answer that is too long, or none of Recado
  # └── BadWebhook    a webhook that is not signed, or too old
  # ArgumentError
  # └── BadInput      a value that cannot be meant; nothing was sent
  #
  # No text of them holds a key.
  class Error < StandardError; end

  # The server has answered with an error that no repeat mends, or with one until the attempts were used up.
  class Refused < Error
    # The status of the answer, the server's word for the error (such as "invalid_key") or nil, the requests that were made.
    attr_reader :status, :code, :attempts

    def initialize(message, status, code = nil, attempts = 1)
      super(message)
      @status = status
      @code = code
      @attempts = attempts
    end
  end

  # The last attempt brought no answer, or not in time. The message may have been stored all the same: a repeat with the
  # same idempotency_key stores it once.
  class Unreachable < Error
    # The key under which the message was sent, for a later repeat; nil for other requests.
    attr_accessor :idempotency_key
  end

  # The answer is too long, or is none of Recado: the address leads somewhere else.
  class BadAnswer < Error; end

  # The request is no webhook of this secret, or it is too old. Answer 400.
  class BadWebhook < Error; end

  # A value that cannot be meant. Nothing was sent.
  class BadInput < ArgumentError; end
end
