# frozen_string_literal: true

class RecadoController < ApplicationController
  # Recado's authUrl: the rooms of the user whose token it is, one of their own and one for everybody.
  def rooms
    user = user_of(Recado::AuthAnswer.token_of(headers["authorization"]))
    answer = Recado.auth_answer(user && ["user_#{user}", "everybody"])
    [answer.status, answer.headers["content-type"], answer.body]
  end
end
