<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadInput;

/** The answer to a request of Recado to `authUrl`: its rooms, or that the token names nobody. */
final class AuthAnswer
{
    private const MOST_ROOMS = 10_000;
    private const MOST_ROOM_BYTES = 1_000;

    /** @param array<string, string> $headers */
    private function __construct(
        public readonly int $status,
        public readonly array $headers,
        public readonly string $body,
    ) {
    }

    /**
     * See `Client::authAnswer`.
     *
     * @param array<mixed>|null $rooms
     */
    public static function of(?array $rooms): self
    {
        $headers = ['content-type' => 'application/json', 'cache-control' => 'no-store'];
        if ($rooms === null) {
            return new self(401, $headers, '{"error":"unknown token"}');
        }
        if (!array_is_list($rooms) || \count($rooms) > self::MOST_ROOMS) {
            throw new BadInput('rooms: expected a list of at most ' . self::MOST_ROOMS . '.');
        }
        array_walk($rooms, self::check(...));
        try {
            return new self(200, $headers, json_encode($rooms, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
        } catch (\JsonException $error) {
            throw new BadInput("rooms: {$error->getMessage()}");
        }
    }

    /**
     * The token of a request of Recado: what stands behind `authScheme` in the header `Authorization`; null without one.
     */
    public static function tokenOf(?string $authorization): ?string
    {
        $words = explode(' ', trim($authorization ?? ''), 2);
        $token = trim(end($words));
        return $token === '' ? null : $token;
    }

    /** Writes the answer, in a program without a framework. */
    public function emit(): void
    {
        http_response_code($this->status);
        foreach ($this->headers as $name => $value) {
            header("$name: $value");
        }
        echo $this->body;
    }

    private static function check(mixed $room): void
    {
        if (!\is_string($room) && !\is_int($room) || $room === '' || \strlen((string) $room) > self::MOST_ROOM_BYTES) {
            throw new BadInput('rooms: expected texts of at most ' . self::MOST_ROOM_BYTES . ' bytes.');
        }
    }
}
