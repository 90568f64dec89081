<?php

declare(strict_types=1);

namespace Recado\Exception;

/**
 * The last attempt brought no answer, or not in time. The message may have been stored all the same: a repeat with the
 * same `idempotency_key` stores it once.
 */
final class Unreachable extends RecadoException
{
    /** The key under which the message was sent, for a later repeat; empty for other requests. */
    public string $idempotencyKey = '';
}
