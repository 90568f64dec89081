<?php

declare(strict_types=1);

namespace Recado\Http;

/** One answer. */
final class Response
{
    /** @param array<string, string> $headers names in lower case */
    public function __construct(
        public readonly int $status,
        public readonly array $headers,
        public readonly string $body,
    ) {
    }

    /** The value of a header, or an empty text. */
    public function header(string $name): string
    {
        return $this->headers[strtolower($name)] ?? '';
    }
}
