# frozen_string_literal: true

require "net/http"
require "openssl"
require "timeout"

module Recado
  # One answer.
  Response = Struct.new(:status, :headers, :body) do
    # The value of a header, or nil.
    def header(name)
      headers[name.downcase]
    end
  end

  # One request. Its key is in the headers only when they are asked for.
  class Request
    attr_reader :verb, :target, :body

    def initialize(verb, target, key, headers, body)
      @verb = verb
      @target = target
      @key = key
      @headers = headers
      @body = body
    end

    def headers
      @headers.merge("X-API-Key" => @key.reveal)
    end

    def inspect
      "#<Recado::Request #{verb} #{target}>"
    end
  end

  # The way to the server by net/http: a connection for each request. An object with the same `send_request` may take its
  # place. Redirects are not followed, nothing is repeated.
  class Transport
    MOST_BYTES = 4_194_304

    # `ca_file` holds the certificates that are trusted, in PEM; nil: those of the system.
    def initialize(url, ca_file: nil, most_bytes: MOST_BYTES)
      @url = url
      @ca_file = ca_file
      @most_bytes = most_bytes
    end

    # Sends one request, once, within these seconds. Raises Unreachable without a whole answer in this time, and BadAnswer
    # with a longer one than is allowed.
    def send_request(request, seconds)
      Timeout.timeout(seconds, OutOfTime) { exchange(request, seconds) }
    rescue OutOfTime, Timeout::Error
      raise Unreachable, "No whole answer in time.", cause: nil
    rescue SystemCallError, IOError, SocketError, OpenSSL::SSL::SSLError => e
      raise Unreachable, "No answer from #{@url.host}: #{e.class.name}: #{e.message}", cause: nil
    rescue Net::ProtocolError, Net::HTTPBadResponse, Net::HTTPHeaderSyntaxError, Zlib::Error
      raise BadAnswer, "The answer is no HTTP.", cause: nil
    end

    def inspect
      "#<Recado::Transport #{@url}>"
    end

    # The time of a request is over. No part of net/http takes it for a time-out of its own.
    class OutOfTime < StandardError; end
    private_constant :OutOfTime

    private

    def exchange(request, seconds)
      connection(seconds).start do |http|
        message = Net::HTTPGenericRequest.new(
          request.verb, !request.body.nil?, true, request.target,
          { "Accept-Encoding" => "identity", "Connection" => "close" }.merge(request.headers)
        )
        message.body = request.body
        return read(http, message)
      end
    end

    def connection(seconds)
      # Without a proxy of the environment: the address is the server's.
      http = Net::HTTP.new(@url.hostname, @url.port, nil)
      http.use_ssl = @url.is_a?(URI::HTTPS)
      http.ca_file = @ca_file if @ca_file
      http.open_timeout = http.read_timeout = http.write_timeout = http.ssl_timeout = seconds
      http.max_retries = 0
      http
    end

    def read(http, message)
      body = +""
      answer = http.request(message) do |response|
        response.read_body do |part|
          body << part
          raise BadAnswer, "The answer is longer than #{@most_bytes} bytes." if body.bytesize > @most_bytes
        end
      end
      headers = answer.each_header.to_h
      Response.new(answer.code.to_i, headers, body.force_encoding(Encoding::UTF_8))
    end
  end
end
