# frozen_string_literal: true

require_relative "lib/recado/version"

Gem::Specification.new do |spec|
  spec.name = "recado"
  spec.version = Recado::VERSION
  spec.summary = "Sends messages to the browsers of a site through a Recado server."
  spec.authors = ["The Recado project"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 2.7"
  spec.files = Dir["lib/**/*.rb", "README.md"]
  spec.require_paths = ["lib"]
  spec.metadata = { "rubygems_mfa_required" => "true" }
end
