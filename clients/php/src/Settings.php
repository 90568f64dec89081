<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadInput;

/**
 * The settings of a client, checked; its secrets are in no dump.
 *
 * | setting | default | meaning |
 * | --- | --- | --- |
 * | `url`, `site`, `api_key` | required | the server, the site and its key |
 * | `webhook_secret` | none | the secret of the site's `webhook`, or a list of them while it is changed |
 * | `token_secret`, `token_issuer`, `token_audience` | none | those of the site's `jwt` |
 * | `attempt_timeout` | 10 | seconds of one attempt, to the last byte of its answer |
 * | `deadline` | 30 | seconds of a call with all its attempts and pauses |
 * | `retries` | 4 | attempts after the first |
 * | `ca_file` | the system's | the certificates that are trusted, in PEM |
 */
final class Settings
{
    private const NAMES = [
        'url', 'site', 'api_key', 'webhook_secret', 'token_secret', 'token_issuer', 'token_audience', 'attempt_timeout',
        'deadline', 'retries', 'ca_file',
    ];

    /**
     * @param list<Secret>              $webhookSecrets
     * @param string|list<string>|null  $tokenAudience
     */
    private function __construct(
        public readonly string $url,
        public readonly string $site,
        public readonly Secret $apiKey,
        public readonly array $webhookSecrets,
        public readonly ?Secret $tokenSecret,
        public readonly ?string $tokenIssuer,
        public readonly string|array|null $tokenAudience,
        public readonly Retries $retries,
        public readonly ?string $caFile,
    ) {
    }

    /** @param array<string, mixed> $given */
    public static function read(#[\SensitiveParameter] array $given): self
    {
        if ($unknown = array_diff(array_keys($given), self::NAMES)) {
            throw new BadInput(reset($unknown) . ': expected one of ' . implode(', ', self::NAMES) . '.');
        }
        $key = self::text($given, 'api_key') ?? throw new BadInput('api_key: expected the key of the site.');
        if (preg_match('/[^\x21-\x7e]/', $key)) {
            throw new BadInput('api_key: expected printable characters of ASCII without spaces.');
        }
        $token = self::text($given, 'token_secret');
        if ($token !== null && \strlen($token) < Token::LEAST_SECRET_BYTES) {
            throw new BadInput('token_secret: expected ' . Token::LEAST_SECRET_BYTES . ' bytes or more.');
        }
        return new self(
            self::url(self::text($given, 'url') ?? ''),
            self::text($given, 'site') ?? throw new BadInput('site: expected the name of a site.'),
            new Secret($key),
            array_map(self::webhookSecret(...), array_values((array) ($given['webhook_secret'] ?? []))),
            $token === null ? null : new Secret($token),
            self::text($given, 'token_issuer'),
            self::audience($given['token_audience'] ?? null),
            new Retries($given['attempt_timeout'] ?? 10.0, $given['deadline'] ?? 30.0, $given['retries'] ?? 4),
            self::text($given, 'ca_file'),
        );
    }

    /** @return array<string, mixed> */
    public function __debugInfo(): array
    {
        return ['url' => $this->url, 'site' => $this->site, 'api_key' => '***'];
    }

    /** @param array<string, mixed> $given */
    private static function text(#[\SensitiveParameter] array $given, string $name): ?string
    {
        $value = $given[$name] ?? null;
        if ($value === null || \is_string($value) && $value !== '' || \is_int($value)) {
            return $value === null ? null : (string) $value;
        }
        throw new BadInput("$name: expected a text.");
    }

    private static function webhookSecret(#[\SensitiveParameter] mixed $text): Secret
    {
        if (!\is_string($text) || !preg_match('~^whsec_[A-Za-z0-9+/]+={0,2}$~D', $text)) {
            throw new BadInput('webhook_secret: expected whsec_ and Base64.');
        }
        return new Secret($text);
    }

    /** @return string|list<string>|null */
    private static function audience(mixed $given): string|array|null
    {
        if ($given === null || array_filter((array) $given, 'is_string') === (array) $given) {
            return \is_array($given) ? array_values($given) : $given;
        }
        throw new BadInput('token_audience: expected a text or a list of texts.');
    }

    private static function url(string $url): string
    {
        $parts = parse_url($url);
        $isKnown = $parts && \in_array(strtolower($parts['scheme'] ?? ''), ['http', 'https'], true);
        if (!$isKnown || !isset($parts['host']) || array_intersect_key($parts, ['user' => 1, 'query' => 1, 'fragment' => 1])) {
            throw new BadInput('url: expected http:// or https:// and the host of the server, without a query.');
        }
        if (preg_match('/[^\x21-\x7e]/', $url)) {
            throw new BadInput('url: expected printable characters of ASCII without spaces.');
        }
        return rtrim($url, '/');
    }
}
