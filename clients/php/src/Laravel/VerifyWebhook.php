<?php

declare(strict_types=1);

namespace Recado\Laravel;

use Illuminate\Http\Request;
use Recado\Client;
use Recado\Exception\BadWebhook;
use Symfony\Component\HttpKernel\Exception\BadRequestHttpException;

/**
 * Middleware of the route to which the site's `webhook` leads: only signed requests pass. The events are then in
 * `$request->attributes->get('recado_events')`. The route is to be left out of the check for CSRF.
 */
final class VerifyWebhook
{
    public function __construct(private readonly Client $client)
    {
    }

    public function handle(Request $request, \Closure $next): mixed
    {
        try {
            $events = $this->client->verifyWebhook($request->getContent(), $request->headers->all());
        } catch (BadWebhook $error) {
            throw new BadRequestHttpException($error->getMessage());
        }
        $request->attributes->set('recado_events', $events);
        return $next($request);
    }
}
