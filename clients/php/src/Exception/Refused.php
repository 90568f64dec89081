<?php

declare(strict_types=1);

namespace Recado\Exception;

/** The server has answered with an error that no repeat mends, or with one until the attempts were used up. */
final class Refused extends RecadoException
{
    /**
     * @param int    $status   the status of the answer
     * @param string $reason   the server's word for the error, such as `invalid_key`, or an empty text
     * @param int    $attempts the requests that were made
     */
    public function __construct(
        string $message,
        public readonly int $status,
        public readonly string $reason = '',
        public readonly int $attempts = 1,
    ) {
        parent::__construct($message, $status);
    }
}
