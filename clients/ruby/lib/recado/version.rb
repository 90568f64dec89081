# frozen_string_literal: true

module Recado
  VERSION = "0.1.0"
end
