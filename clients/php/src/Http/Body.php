<?php

declare(strict_types=1);

namespace Recado\Http;

use Recado\Exception\BadAnswer;
use Recado\Exception\Unreachable;

/** Reads the body of one answer: by its length, in chunks, or up to the end of the connection. */
final class Body
{
    private const MOST_CHUNK_LINE_BYTES = 1_024;

    private string $bytes = '';

    /** @param \Closure(): ?string $next the next bytes; null at the end of the connection */
    public function __construct(private readonly \Closure $next, private readonly int $mostBytes)
    {
    }

    /**
     * @param array<string, string> $headers
     * @param string                $begun   what has been read behind the head
     */
    public function read(int $status, array $headers, string $begun): string
    {
        $this->bytes = $begun;
        if ($status === 204 || $status === 304) {
            return '';
        }
        if (strtolower($headers['transfer-encoding'] ?? '') === 'chunked') {
            return $this->chunks();
        }
        if (isset($headers['content-length'])) {
            return $this->take(self::number($headers['content-length'], '/^\d{1,15}$/D', 10));
        }
        while (($part = ($this->next)()) !== null) {
            $this->bytes .= $part;
            $this->check(\strlen($this->bytes));
        }
        return $this->bytes;
    }

    private function chunks(): string
    {
        $body = '';
        while (($length = self::number($this->line(), '/^[0-9a-f]{1,12}$/Di', 16)) > 0) {
            $this->check(\strlen($body) + $length);
            $body .= $this->take($length);
            if ($this->take(2) !== "\r\n") {
                throw new BadAnswer('A chunk of the answer has no end.');
            }
        }
        return $body;
    }

    private function line(): string
    {
        while (($end = strpos($this->bytes, "\r\n")) === false) {
            if (\strlen($this->bytes) > self::MOST_CHUNK_LINE_BYTES) {
                throw new BadAnswer('A chunk of the answer has no length.');
            }
            $this->grow();
        }
        [$line] = explode(';', substr($this->bytes, 0, $end));
        $this->bytes = substr($this->bytes, $end + 2);
        return trim($line);
    }

    private function take(int $length): string
    {
        $this->check($length);
        while (\strlen($this->bytes) < $length) {
            $this->grow();
        }
        $taken = substr($this->bytes, 0, $length);
        $this->bytes = substr($this->bytes, $length);
        return $taken;
    }

    private function grow(): void
    {
        $this->bytes .= ($this->next)() ?? throw new Unreachable('The answer was cut off.');
    }

    private function check(int $length): void
    {
        if ($length > $this->mostBytes) {
            throw new BadAnswer("The answer is longer than {$this->mostBytes} bytes.");
        }
    }

    private static function number(string $text, string $form, int $radix): int
    {
        if (!preg_match($form, $text)) {
            throw new BadAnswer('The answer has no length that can be read.');
        }
        return \intval($text, $radix);
    }
}
