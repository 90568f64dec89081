<?php

declare(strict_types=1);

namespace Recado;

/**
 * A text that no dump, log or serialization shows. It stands outside the object, so that var_export, too, finds nothing.
 */
final class Secret
{
    /** @var \WeakMap<Secret, string>|null */
    private static ?\WeakMap $texts = null;

    public function __construct(#[\SensitiveParameter] string $text)
    {
        self::$texts ??= new \WeakMap();
        self::$texts[$this] = $text;
    }

    /** The text itself. */
    public function reveal(): string
    {
        return self::$texts[$this] ?? throw new \LogicException('A copy of a secret has no text.');
    }

    /** A text without the secret: what another library says may hold it. */
    public function hideIn(string $text): string
    {
        $secret = $this->reveal();
        return $secret === '' ? $text : str_replace([$secret, rawurlencode($secret)], '***', $text);
    }

    /** @return array<string, string> */
    public function __debugInfo(): array
    {
        return ['text' => '***'];
    }

    /** @return array<string, mixed> */
    public function __serialize(): array
    {
        throw new \LogicException('A secret of Recado is not serialized; keep the settings, and make the client from them.');
    }
}
