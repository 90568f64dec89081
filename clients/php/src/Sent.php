<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadAnswer;

/** A message that is stored. */
final class Sent
{
    /**
     * @param string   $id         for `message` and `withdraw`
     * @param int      $recipients how many devices it is stored for
     * @param bool     $replayed   whether an earlier request of the same `idempotency_key` had stored it
     * @param int|null $acked      with `wait`: how many devices have acknowledged it
     * @param int|null $waiting    with `wait`: how many of the connected ones have not
     */
    public function __construct(
        public readonly string $id,
        public readonly int $recipients,
        public readonly bool $replayed = false,
        public readonly ?int $acked = null,
        public readonly ?int $waiting = null,
    ) {
    }

    /** @param array<mixed> $answer */
    public static function read(array $answer, bool $isReplayed): self
    {
        $numbers = array_intersect_key($answer, ['recipients' => 1, 'acked' => 1, 'waiting' => 1]);
        if (!\is_string($answer['id'] ?? null) || !isset($numbers['recipients']) || array_filter($numbers, 'is_int') !== $numbers) {
            throw new BadAnswer('The answer has no id of the message.');
        }
        return new self(
            $answer['id'],
            $numbers['recipients'],
            $isReplayed,
            $numbers['acked'] ?? null,
            $numbers['waiting'] ?? null,
        );
    }
}
