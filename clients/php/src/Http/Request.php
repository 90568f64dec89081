<?php

declare(strict_types=1);

namespace Recado\Http;

use Recado\Secret;

/** One request. Its key is in the headers only when they are asked for. */
final class Request
{
    /** @param array<string, string> $headers without the key */
    public function __construct(
        public readonly string $method,
        public readonly string $url,
        private readonly Secret $key,
        private readonly array $headers,
        public readonly string $body,
    ) {
    }

    /** @return array<string, string> */
    public function headers(): array
    {
        return $this->headers + ['X-API-Key' => $this->key->reveal()];
    }
}
