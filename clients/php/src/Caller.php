<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadAnswer;
use Recado\Exception\BadInput;
use Recado\Exception\Refused;
use Recado\Exception\Unreachable;
use Recado\Http\Request;
use Recado\Http\Response;
use Recado\Http\Transport;

/** Makes a request, and repeats it until it is answered or its time is over. */
final class Caller
{
    private const MOST_JSON_DEPTH = 512;
    private const MOST_REASON_BYTES = 500;

    public function __construct(private readonly Settings $settings, private readonly Transport $transport)
    {
    }

    /** A new `Idempotency-Key`. */
    public static function newKey(): string
    {
        return bin2hex(random_bytes(16));
    }

    /**
     * Sends a message, or a batch of them.
     *
     * @param array<string, string> $query
     * @param float                 $waits seconds that the server waits before its answer
     *
     * @return array{array<mixed>, bool} the answer, and whether an earlier request had stored it
     */
    public function send(string $path, array $query, string $body, mixed $key, float $waits = 0.0): array
    {
        if (!\is_string($key) || !preg_match('/^[\x20-\x7e]{1,128}$/D', $key)) {
            throw new BadInput('idempotency_key: expected 1 to 128 printable characters.');
        }
        try {
            $response = $this->call('POST', $path, $query, $body, ['Idempotency-Key' => $key], $waits);
        } catch (Unreachable $error) {
            $error->idempotencyKey = $key;
            throw $error;
        }
        return [self::decoded($response), strtolower($response->header('Idempotent-Replayed')) === 'true'];
    }

    /**
     * Makes any other request. A repeat does no harm.
     *
     * @param array<string, string> $query
     *
     * @return array<string, mixed>
     */
    public function ask(string $method, string $path, array $query = [], string $body = ''): array
    {
        return self::decoded($this->call($method, $path, $query, $body));
    }

    /**
     * @param array<string, string> $query
     * @param array<string, string> $headers
     */
    private function call(
        string $method,
        string $path,
        array $query,
        string $body,
        array $headers = [],
        float $waits = 0.0,
    ): Response {
        $query = http_build_query(['site' => $this->settings->site] + $query, '', '&', PHP_QUERY_RFC3986);
        $headers += ['Accept' => 'application/json', 'User-Agent' => 'recado-php'];
        $headers += $body === '' ? [] : ['Content-Type' => 'application/json'];
        $request = new Request($method, "{$this->settings->url}$path?$query", $this->settings->apiKey, $headers, $body);
        $retries = $this->settings->retries;
        $until = hrtime(true) / 1e9 + $retries->deadlineSeconds + $waits;
        for ($attempts = 1;; ++$attempts) {
            $left = $until - hrtime(true) / 1e9;
            $outcome = $this->attempt($request, min($retries->attemptSeconds + $waits, $left));
            if ($outcome instanceof Response && $outcome->status === 200) {
                return $outcome;
            }
            $pause = $this->pause($outcome, $attempts, $until - hrtime(true) / 1e9);
            if ($pause === null) {
                throw $outcome instanceof Response ? $this->refusal($outcome, $attempts) : $outcome;
            }
            usleep((int) ($pause * 1e6));
        }
    }

    private function attempt(Request $request, float $seconds): Response|Unreachable
    {
        try {
            return $this->transport->send($request, $seconds);
        } catch (Unreachable $error) {
            return new Unreachable($this->settings->apiKey->hideIn($error->getMessage()));
        }
    }

    private function pause(Response|Unreachable $outcome, int $attempts, float $left): ?float
    {
        if ($outcome instanceof Response && !Retries::isPassing($outcome->status)) {
            return null;
        }
        $asked = $outcome instanceof Response ? $outcome->header('Retry-After') : '';
        return $this->settings->retries->pause($attempts, $left, $asked, mt_rand() / mt_getrandmax());
    }

    private function refusal(Response $response, int $attempts): Refused
    {
        $said = json_decode($response->body, true);
        $text = \is_array($said) && \is_string($said['error'] ?? null) ? $said['error'] : $response->body;
        $text = preg_replace('/[^\x20-\x7e]+/', ' ', substr($text, 0, self::MOST_REASON_BYTES));
        $code = \is_array($said) && \is_string($said['code'] ?? null) ? $said['code'] : '';
        $text = $this->settings->apiKey->hideIn("Recado answered {$response->status}: $text");
        return new Refused($text, $response->status, $code, $attempts);
    }

    /** @return array<mixed> */
    private static function decoded(Response $response): array
    {
        $value = json_decode($response->body, true, self::MOST_JSON_DEPTH, JSON_BIGINT_AS_STRING);
        return \is_array($value) ? $value : throw new BadAnswer('The answer is no JSON of Recado.');
    }
}
