# frozen_string_literal: true

module Recado
  # A text that no inspection, log or serialization shows. It stands in a method of the object, not in a variable.
  class Secret
    HIDDEN = "***"

    def initialize(text)
      text = text.dup.freeze
      define_singleton_method(:reveal) { text }
    end

    # A text without the secret: what another library says may hold it.
    def hide_in(text)
      reveal.empty? ? text : text.gsub(reveal, HIDDEN)
    end

    def inspect
      "#<Recado::Secret #{HIDDEN}>"
    end

    def to_s
      HIDDEN
    end

    def as_json(*)
      HIDDEN
    end

    def to_json(*arguments)
      HIDDEN.to_json(*arguments)
    end

    def encode_with(coder)
      coder["text"] = HIDDEN
    end

    def marshal_dump
      raise TypeError, "a secret of Recado is not serialized; keep the settings, and make the client from them"
    end
  end
end
