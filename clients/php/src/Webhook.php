<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadInput;
use Recado\Exception\BadWebhook;

/** Checks webhooks in the form of Standard Webhooks. */
final class Webhook
{
    private const MOST_BYTES = 1_048_576;
    private const MOST_SIGNATURES = 32;
    /** How far the time of a request may be from ours, before and after. */
    private const TOLERANCE_SECONDS = 300;

    /**
     * See `Client::verifyWebhook`.
     *
     * @param array<string, mixed> $headers
     * @param list<Secret>         $secrets
     *
     * @return list<array<string, mixed>>
     */
    public static function verify(string $body, array $headers, array $secrets, ?int $now = null): array
    {
        $keys = array_map(self::key(...), $secrets) ?: throw new BadInput('webhook_secret: expected the secret of the webhook.');
        if (\strlen($body) > self::MOST_BYTES) {
            throw new BadWebhook('The webhook is longer than 1 MB.');
        }
        [$id, $at, $signatures] = array_map(
            static fn (string $name): string => self::header($headers, $name) ?? throw new BadWebhook("The webhook has no $name."),
            ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
        );
        if (!preg_match('/^\d{1,12}$/D', $at) || abs(($now ?? time()) - (int) $at) > self::TOLERANCE_SECONDS) {
            throw new BadWebhook('The time of the webhook is too far from ours.');
        }
        $signed = "$id.$at.$body";
        if (!self::isSigned($signed, \array_slice(explode(' ', $signatures, self::MOST_SIGNATURES + 1), 0, self::MOST_SIGNATURES), $keys)) {
            throw new BadWebhook('The webhook is signed by another secret, or was changed.');
        }
        return self::events($body);
    }

    /**
     * @param list<string> $signatures
     * @param list<string> $keys
     */
    private static function isSigned(string $signed, array $signatures, #[\SensitiveParameter] array $keys): bool
    {
        $isRight = false;
        foreach ($keys as $key) {
            $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
            foreach ($signatures as $signature) {
                $isRight = hash_equals($expected, $signature) || $isRight;
            }
        }
        return $isRight;
    }

    /** @return list<array<string, mixed>> */
    private static function events(string $body): array
    {
        $events = json_decode($body, true, 512, JSON_BIGINT_AS_STRING)['data']['events'] ?? null;
        return \is_array($events) && array_is_list($events) ? $events : throw new BadWebhook('The webhook has no events.');
    }

    private static function key(Secret $secret): string
    {
        return base64_decode(substr($secret->reveal(), \strlen('whsec_')));
    }

    /** @param array<string, mixed> $headers */
    private static function header(array $headers, string $name): ?string
    {
        foreach ($headers as $given => $value) {
            $given = strtolower(strtr((string) $given, '_', '-'));
            if ($given === $name || $given === "http-$name") {
                $value = \is_array($value) ? reset($value) : $value;
                return \is_string($value) || \is_int($value) ? (string) $value : null;
            }
        }
        return null;
    }
}
