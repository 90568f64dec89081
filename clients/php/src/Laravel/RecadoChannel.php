<?php

declare(strict_types=1);

namespace Recado\Laravel;

use Illuminate\Notifications\Notification;
use Recado\Client;
use Recado\Exception\BadInput;
use Recado\Sent;

/**
 * Sends notifications with `via` of `recado`. The notification has `toRecado($notifiable): RecadoMessage`; the notified one
 * has `routeNotificationForRecado`, which answers the user room, unless the message names its rooms.
 */
final class RecadoChannel
{
    public function __construct(private readonly Client $client)
    {
    }

    /** Sends it once, also when a queue repeats the job. Without rooms nothing is sent. */
    public function send(mixed $notifiable, Notification $notification): ?Sent
    {
        if (!method_exists($notification, 'toRecado')) {
            throw new BadInput($notification::class . ': expected a method toRecado.');
        }
        $message = $notification->toRecado($notifiable);
        $rooms = $message->rooms ?: $notifiable->routeNotificationFor('recado', $notification);
        if ($rooms === null || $rooms === '' || $rooms === []) {
            return null;
        }
        // The id of a notification is that of one recipient, and a repeated job keeps it.
        $key = $notification->id ? ['idempotency_key' => "notification-{$notification->id}"] : [];
        return $this->client->send($rooms, $message->event, $message->args, $message->options + $key);
    }
}
