<?php

declare(strict_types=1);

namespace Recado\Http;

use Psr\Http\Client\ClientExceptionInterface;
use Psr\Http\Client\ClientInterface;
use Psr\Http\Message\RequestFactoryInterface;
use Psr\Http\Message\StreamFactoryInterface;
use Psr\Http\Message\StreamInterface;
use Recado\Exception\BadAnswer;
use Recado\Exception\RecadoException;
use Recado\Exception\Unreachable;

/**
 * Sends through an HTTP client of the application (PSR-18). PSR-18 knows no time-out: set those of the client, for its
 * connection and for each read, and turn its own retries and redirects off. Let it stream, or it reads an answer whole.
 */
final class Psr18Transport implements Transport
{
    private const PART_BYTES = 65_536;

    public function __construct(
        private readonly ClientInterface $client,
        private readonly RequestFactoryInterface $requests,
        private readonly StreamFactoryInterface $streams,
        private readonly int $mostBytes = StreamTransport::MOST_BYTES,
    ) {
    }

    public function send(Request $request, float $seconds): Response
    {
        $message = $this->requests->createRequest($request->method, $request->url);
        foreach ($request->headers() as $name => $value) {
            $message = $message->withHeader($name, $value);
        }
        if ($request->body !== '') {
            $message = $message->withBody($this->streams->createStream($request->body));
        }
        try {
            $until = hrtime(true) / 1e9 + $seconds;
            $answer = $this->client->sendRequest($message);
            $headers = array_map(static fn (array $values): string => $values[0] ?? '', $answer->getHeaders());
            $body = $this->read($answer->getBody(), $until);
        } catch (RecadoException $error) {
            throw $error;
        } catch (ClientExceptionInterface | \RuntimeException $error) {
            // Without the cause itself: it holds the request, and so the key.
            throw new Unreachable($error->getMessage());
        }
        return new Response($answer->getStatusCode(), array_change_key_case($headers), $body);
    }

    private function read(StreamInterface $stream, float $until): string
    {
        $body = '';
        while (!$stream->eof()) {
            $body .= $stream->read(self::PART_BYTES);
            if (\strlen($body) > $this->mostBytes) {
                $stream->close();
                throw new BadAnswer("The answer is longer than {$this->mostBytes} bytes.");
            }
            if (hrtime(true) / 1e9 > $until) {
                $stream->close();
                throw new Unreachable('No whole answer in time.');
            }
        }
        return $body;
    }
}
