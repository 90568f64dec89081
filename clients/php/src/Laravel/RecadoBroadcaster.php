<?php

declare(strict_types=1);

namespace Recado\Laravel;

use Illuminate\Broadcasting\Broadcasters\Broadcaster;
use Illuminate\Broadcasting\Broadcasters\UsePusherChannelConventions;
use Illuminate\Broadcasting\BroadcastException;
use Recado\Client;
use Recado\Exception\BadInput;
use Recado\Exception\RecadoException;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;

/**
 * Broadcasts events of Laravel to rooms of a site. A channel is the room of its name, without `private-` and `presence-`;
 * the channel of a user, `App.Models.User.8`, is the user room `user_8`. The payload is the one argument of the event.
 *
 *     // config/broadcasting.php
 *     'recado' => ['driver' => 'recado', 'options' => ['ttl' => 3600]],
 *
 * Recado asks `authUrl` for a user's rooms at each connect, so pages need no `/broadcasting/auth`; it answers all the same.
 */
final class RecadoBroadcaster extends Broadcaster
{
    use UsePusherChannelConventions;

    /** @var array<string, string> */
    private readonly array $rooms;
    /** @var array<string, mixed> */
    private readonly array $options;

    /**
     * @param array<string, mixed> $connection of config/broadcasting.php: `rooms`, a map of the beginnings of channels to
     *                                         those of rooms, and `options`, those of each message
     */
    public function __construct(private readonly Client $client, array $connection = [])
    {
        $this->rooms = $connection['rooms'] ?? ['App.Models.User.' => 'user_'];
        $this->options = $connection['options'] ?? [];
    }

    /** The rules of routes/channels.php, for a page that asks. */
    public function auth($request)
    {
        $channel = (string) $request->input('channel_name');
        $name = $this->normalizeChannelName($channel);
        if ($name === '' || $this->isGuardedChannel($channel) && !$this->retrieveUser($request, $name)) {
            throw new AccessDeniedHttpException();
        }
        return $this->verifyUserCanAccessChannel($request, $name);
    }

    /** @return array<string, mixed> */
    public function validAuthenticationResponse($request, $result)
    {
        $room = $this->roomOf((string) $request->input('channel_name'));
        return ['room' => $room] + (\is_bool($result) ? [] : ['member' => $result]);
    }

    public function broadcast(array $channels, $event, array $payload = []): void
    {
        $rooms = array_map($this->roomOf(...), $this->formatChannels($channels));
        // The id of the socket that Laravel would leave out: pages of Recado have none.
        unset($payload['socket']);
        try {
            $this->client->send($rooms, $event, [(object) $payload], $this->options);
        } catch (RecadoException | BadInput $error) {
            throw new BroadcastException($error->getMessage(), (int) $error->getCode(), $error);
        }
    }

    private function roomOf(string $channel): string
    {
        $name = $this->normalizeChannelName($channel);
        foreach ($this->rooms as $begin => $room) {
            if (str_starts_with($name, $begin)) {
                return $room . substr($name, \strlen($begin));
            }
        }
        return $name;
    }
}
