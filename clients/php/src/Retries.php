<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadInput;

/**
 * Decides whether a request is repeated, and when. The pause grows from 0.2 s to 5 s by doubling and is shortened by
 * chance by up to a half, so that callers that failed together do not come back together.
 */
final class Retries
{
    private const STATUSES = [408, 429, 500, 502, 503, 504];
    private const FIRST_PAUSE_SECONDS = 0.2;
    private const MOST_PAUSE_SECONDS = 5.0;

    public readonly float $attemptSeconds;
    public readonly float $deadlineSeconds;
    private readonly int $retries;

    public function __construct(mixed $attemptSeconds, mixed $deadlineSeconds, mixed $retries)
    {
        foreach (['attempt_timeout' => $attemptSeconds, 'deadline' => $deadlineSeconds] as $name => $value) {
            if (!is_numeric($value) || $value <= 0 || $value > 86_400) {
                throw new BadInput("$name: expected seconds above 0.");
            }
        }
        if (!is_numeric($retries) || $retries < 0 || $retries > 1_000) {
            throw new BadInput('retries: expected a number from 0 to 1000.');
        }
        $this->attemptSeconds = (float) $attemptSeconds;
        $this->deadlineSeconds = (float) $deadlineSeconds;
        $this->retries = (int) $retries;
    }

    /** Whether an answer of this status may be another one in a moment. */
    public static function isPassing(int $status): bool
    {
        return \in_array($status, self::STATUSES, true);
    }

    /**
     * The pause before the next attempt; null: there is none.
     *
     * @param int    $attempts    the attempts that were made
     * @param float  $leftSeconds the time to the deadline
     * @param string $retryAfter  the header of the answer, or an empty text
     * @param float  $chance      from 0 to 1
     */
    public function pause(int $attempts, float $leftSeconds, string $retryAfter, float $chance): ?float
    {
        if ($attempts > $this->retries) {
            return null;
        }
        $grown = min(self::MOST_PAUSE_SECONDS, self::FIRST_PAUSE_SECONDS * 2 ** ($attempts - 1));
        $asked = preg_match('/^\d+$/D', $retryAfter) ? (float) $retryAfter : 0.0;
        $pause = max($asked, $grown * (0.5 + $chance / 2));
        return $pause < $leftSeconds ? $pause : null;
    }
}
