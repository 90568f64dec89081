# frozen_string_literal: true

ROUTES = {
  "GET /" => [NotesController, :index],
  "POST /notes" => [NotesController, :create],
  "GET /recado/rooms" => [RecadoController, :rooms]
}.freeze
