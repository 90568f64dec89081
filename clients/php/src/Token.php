<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadInput;

/** Signs the tokens of users: JWTs with HS256. */
final class Token
{
    public const LEAST_SECRET_BYTES = 32;

    /** The claims that the caller's own may not replace. */
    private const FIXED = ['iss', 'aud', 'sub', 'rooms', 'iat', 'exp'];

    /**
     * See `Client::signToken`.
     *
     * @param list<string|int>     $rooms
     * @param array<string, mixed> $claims
     */
    public static function sign(
        Settings $settings,
        string $user,
        array $rooms,
        int $expiresIn,
        array $claims,
        ?int $now = null,
    ): string {
        $secret = $settings->tokenSecret?->reveal();
        if ($secret === null || $settings->tokenIssuer === null) {
            throw new BadInput('token_secret, token_issuer: expected those of the site.');
        }
        if ($expiresIn <= 0 || $user === '') {
            throw new BadInput('user, expires_in: expected the id of a user, and seconds above 0.');
        }
        if (array_intersect_key($claims, array_flip(self::FIXED))) {
            throw new BadInput('claims: expected none of ' . implode(', ', self::FIXED) . '.');
        }
        $now ??= time();
        $audience = $settings->tokenAudience === null ? [] : ['aud' => $settings->tokenAudience];
        $times = ['iat' => $now, 'exp' => $now + $expiresIn];
        $claims += ['iss' => $settings->tokenIssuer, 'sub' => $user, 'rooms' => array_values($rooms)] + $audience + $times;
        try {
            $body = json_encode($claims, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR);
        } catch (\JsonException $error) {
            throw new BadInput("claims: {$error->getMessage()}");
        }
        $signed = self::encode('{"alg":"HS256","typ":"JWT"}') . '.' . self::encode($body);
        return "$signed." . self::encode(hash_hmac('sha256', $signed, $secret, true));
    }

    private static function encode(string $bytes): string
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }
}
