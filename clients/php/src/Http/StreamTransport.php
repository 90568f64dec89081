<?php

declare(strict_types=1);

namespace Recado\Http;

use Recado\Exception\BadAnswer;
use Recado\Exception\BadInput;
use Recado\Exception\Unreachable;

/**
 * HTTP/1.1 over PHP's own streams: a connection for each request, without an extension (https needs ext-openssl).
 * Every step ends with the request's time, and no more of an answer is read than is allowed.
 */
final class StreamTransport implements Transport
{
    /** The bytes of an answer's body, and of its head. */
    public const MOST_BYTES = 4_194_304;
    private const MOST_HEAD_BYTES = 65_536;
    private const PART_BYTES = 65_536;

    /** @param string|null $caFile the certificates that are trusted, in PEM; null: those of the system */
    public function __construct(
        private readonly ?string $caFile = null,
        private readonly int $mostBytes = self::MOST_BYTES,
    ) {
    }

    public function send(Request $request, float $seconds): Response
    {
        $until = self::now() + $seconds;
        $stream = $this->connect($request->url, $until);
        try {
            self::write($stream, self::head($request) . $request->body, $until);
            return $this->read($stream, $until);
        } finally {
            fclose($stream);
        }
    }

    /** @return resource */
    private function connect(string $url, float $until)
    {
        ['scheme' => $scheme, 'host' => $host] = $parts = parse_url($url);
        $isSecure = strtolower($scheme) === 'https';
        $port = $parts['port'] ?? ($isSecure ? 443 : 80);
        $tls = ['peer_name' => trim($host, '[]')] + ($this->caFile === null ? [] : ['cafile' => $this->caFile]);
        $address = ($isSecure ? 'ssl' : 'tcp') . "://$host:$port";
        $context = stream_context_create(['ssl' => $tls]);
        $seconds = max(0.001, $until - self::now());
        // The reason is in the warning: of a failed TLS handshake the error is empty.
        $warning = '';
        set_error_handler(static function (int $level, string $text) use (&$warning): bool {
            $warning = $warning === '' ? $text : $warning;
            return true;
        });
        try {
            $stream = stream_socket_client($address, $code, $error, $seconds, STREAM_CLIENT_CONNECT, $context);
        } finally {
            restore_error_handler();
        }
        if ($stream === false) {
            throw new Unreachable("No connection to $host:$port: " . ($error !== '' ? $error : $warning));
        }
        stream_set_blocking($stream, false);
        return $stream;
    }

    private static function head(Request $request): string
    {
        $parts = parse_url($request->url);
        $host = $parts['host'] . (isset($parts['port']) ? ":{$parts['port']}" : '');
        $target = ($parts['path'] ?? '/') . (isset($parts['query']) ? "?{$parts['query']}" : '');
        $lines = ["{$request->method} $target HTTP/1.1", "Host: $host", 'Connection: close'];
        $length = $request->body === '' && $request->method !== 'POST' ? [] : ['Content-Length' => \strlen($request->body)];
        foreach ($request->headers() + $length as $name => $value) {
            $lines[] = "$name: $value";
        }
        foreach ($lines as $line) {
            if (preg_match('/[\r\n\0]/', $line)) {
                throw new BadInput('A header of the request: expected no line break.');
            }
        }
        return implode("\r\n", $lines) . "\r\n\r\n";
    }

    /** @param resource $stream */
    private static function write($stream, #[\SensitiveParameter] string $bytes, float $until): void
    {
        while ($bytes !== '') {
            $written = @fwrite($stream, $bytes, self::PART_BYTES);
            if ($written === false) {
                throw new Unreachable('The connection broke while the request was written.');
            }
            $bytes = substr($bytes, $written);
            if ($written === 0) {
                self::wait($stream, $until, isForWriting: true);
            }
        }
    }

    /** @param resource $stream */
    private function read($stream, float $until): Response
    {
        $bytes = '';
        do {
            $end = strpos($bytes, "\r\n\r\n");
            while ($end === false) {
                $bytes .= self::part($stream, $until) ?? throw new Unreachable('The connection ended before an answer.');
                $end = strpos($bytes, "\r\n\r\n");
                if (($end === false ? \strlen($bytes) : $end) > self::MOST_HEAD_BYTES) {
                    throw new BadAnswer('The head of the answer is too long.');
                }
            }
            [$status, $headers] = self::parsed(substr($bytes, 0, $end));
            $bytes = substr($bytes, $end + 4);
        } while ($status < 200);
        $next = static fn (): ?string => self::part($stream, $until);
        return new Response($status, $headers, (new Body($next, $this->mostBytes))->read($status, $headers, $bytes));
    }

    /** @return array{int, array<string, string>} */
    private static function parsed(string $head): array
    {
        $lines = explode("\r\n", $head);
        if (!preg_match('~^HTTP/1\.[01] ([1-5]\d\d)(?: |$)~', array_shift($lines), $found)) {
            throw new BadAnswer('The answer is no HTTP.');
        }
        $headers = [];
        foreach ($lines as $line) {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $headers[strtolower(trim($name))] ??= trim($value);
        }
        return [(int) $found[1], $headers];
    }

    /**
     * The next bytes; null at the end of the connection.
     *
     * @param resource $stream
     */
    private static function part($stream, float $until): ?string
    {
        // First read, then wait: TLS may hold bytes that have arrived already.
        while (($bytes = @fread($stream, self::PART_BYTES)) === '' || $bytes === false) {
            if (feof($stream)) {
                return null;
            }
            self::wait($stream, $until, isForWriting: false);
        }
        if (self::now() > $until) {
            throw new Unreachable('No whole answer in time.');
        }
        return $bytes;
    }

    /** @param resource $stream */
    private static function wait($stream, float $until, bool $isForWriting): void
    {
        $left = $until - self::now();
        if ($left <= 0) {
            throw new Unreachable('No whole answer in time.');
        }
        $reading = $isForWriting ? null : [$stream];
        $writing = $isForWriting ? [$stream] : null;
        $none = null;
        // A signal ends the wait early, with a warning; the caller looks at the time again.
        @stream_select($reading, $writing, $none, (int) $left, (int) (fmod($left, 1) * 1_000_000));
    }

    private static function now(): float
    {
        return hrtime(true) / 1e9;
    }
}
