# frozen_string_literal: true

class NotesController < ApplicationController
  VIEW = File.read(File.join(__dir__, "../views/page.html"))

  # The page of the user in the query. A real site has a login in the place of this.
  def index
    name = user(params.fetch("user", "alice"))
    page = { user: name, token: token_of(name), url: "#{RECADO_URL}/rails-style", notes: "/notes" }
    [200, "text/html; charset=utf-8", VIEW.gsub("RECADO_URL", RECADO_URL).sub("{}") { JSON.generate(page) }]
  end

  def create
    Note.create!(user: user(params["user"]), text: params["text"].to_s[0, 200])
    [204, "text/plain", ""]
  end
end
