# frozen_string_literal: true

# A note. In Rails it is a table, and `include Recado::Broadcasts` tells of it when it is committed.
class Note
  def self.create!(user:, text:)
    Recado.client.send_message("user_#{user}", "note", [{ text: text }])
  end
end
