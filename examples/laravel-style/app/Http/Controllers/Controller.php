<?php

declare(strict_types=1);

namespace App\Http\Controllers;

use App\Events\NoteCreated;
use Recado\Client;

/** The parts that Laravel itself would bring. */
class Controller
{
    /** A real site has a secret of its own here, out of its environment. */
    private const APP_KEY = 'put-another-secret-of-your-own-here';

    public function __construct(protected readonly Client $recado)
    {
    }

    public function missing(): void
    {
        http_response_code(404);
    }

    protected function broadcast(NoteCreated $event): void
    {
        $this->recado->send($event->broadcastOn(), $event->broadcastAs(), [$event->broadcastWith()]);
    }

    /** The token of a user's page. A real site has its sessions in the place of this. */
    protected static function tokenOf(string $user): string
    {
        return "$user." . hash_hmac('sha256', $user, self::APP_KEY);
    }

    /** The user whose token it is; null: nobody's. */
    protected static function userOf(?string $token): ?string
    {
        [$user] = explode('.', $token ?? '');
        return $token !== null && hash_equals(self::tokenOf($user), $token) ? $user : null;
    }

    /** The name of a user that a browser has given; anything else ends the request. */
    protected static function user(mixed $given): string
    {
        if (!\is_string($given) || !preg_match('/^\w{1,64}$/D', $given)) {
            http_response_code(422);
            exit;
        }
        return $given;
    }
}
