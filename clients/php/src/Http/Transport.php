<?php

declare(strict_types=1);

namespace Recado\Http;

use Recado\Exception\BadAnswer;
use Recado\Exception\Unreachable;

/** The way to the server. Redirects are not followed. */
interface Transport
{
    /**
     * Sends one request, once.
     *
     * @param float $seconds the time for all of it
     *
     * @throws Unreachable without a whole answer in this time
     * @throws BadAnswer   with a longer one than is allowed
     */
    public function send(Request $request, float $seconds): Response;
}
