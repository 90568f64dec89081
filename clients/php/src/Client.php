<?php

declare(strict_types=1);

namespace Recado;

use Recado\Exception\BadAnswer;
use Recado\Exception\BadInput;
use Recado\Exception\Refused;
use Recado\Http\Transport;

/**
 * One site of a Recado server, as its backend sees it. A client may live as long as the process; it keeps no connection.
 *
 *     $recado = new Recado\Client(['url' => 'https://push.example.com', 'site' => 'shop', 'api_key' => getenv('KEY')]);
 *     $recado->send('user_8', 'news', [['id' => 3]], ['ttl' => 3600]);
 *
 * Every request is repeated until it is answered (see `Retries`). A message is stored once all the same, by its
 * `idempotency_key`. Methods throw `Refused`, `Unreachable` and `BadAnswer`, and `BadInput` before anything is sent.
 */
final class Client
{
    /** The options of a message, by the names of the query of `/send`. */
    private const MESSAGE_OPTIONS = [
        'ttl', 'collapse', 'settle', 'ack_within', 'wait', 'timeout', 'notify', 'id', 'resync',
    ];
    private const MOST_BATCH = 100;

    private readonly Caller $caller;
    private readonly Settings $settings;

    /**
     * @param array<string, mixed> $settings  `url`, `site`, `api_key`; see `Settings` for the others
     * @param Transport|null       $transport the way to the server; null: PHP's streams. `Http\Psr18Transport` takes a
     *                                        client of PSR-18
     */
    public function __construct(#[\SensitiveParameter] array $settings, ?Transport $transport = null)
    {
        $this->settings = Settings::read($settings);
        $this->caller = new Caller($this->settings, $transport ?? new Http\StreamTransport($this->settings->caFile));
    }

    /**
     * Sends an event to a room or to several. When this returns the message is stored for every addressed device.
     *
     * @param string|int|list<string|int> $rooms
     * @param mixed                       $args    the list of arguments; any other value is the one argument; null unless given
     * @param array<string, mixed>        $options those of `/send` by their names, and `idempotency_key`
     */
    public function send(string|int|array $rooms, string $event, mixed $args = [null], array $options = []): Sent
    {
        $key = $options['idempotency_key'] ?? Caller::newKey();
        unset($options['idempotency_key']);
        $query = self::query($options);
        $waits = isset($options['wait']) ? (float) ($options['timeout'] ?? 5) : 0.0;
        $body = self::json(self::body($rooms, $event, $args));
        return Sent::read(...$this->caller->send('/send', $query, $body, $key, $waits));
    }

    /**
     * Sends up to 100 messages, each with `rooms`, `event`, `args` and options; the accepted ones are in the queues in
     * this order.
     *
     * @param list<array<string, mixed>> $messages
     * @param array<string, mixed>       $options  `idempotency_key`, for all of them together
     *
     * @return list<array<string, mixed>> what became of each: `ok`, and `id`, or `error` with its `status`
     */
    public function sendBatch(array $messages, array $options = []): array
    {
        if (!array_is_list($messages) || $messages === [] || \count($messages) > self::MOST_BATCH) {
            throw new BadInput('messages: expected a list of 1 to ' . self::MOST_BATCH . '.');
        }
        if ($unknown = array_diff_key($options, ['idempotency_key' => 1])) {
            throw new BadInput(self::named(key($unknown)) . ': expected idempotency_key, as the only option of a batch.');
        }
        $body = self::json(array_map(self::batched(...), $messages));
        $key = $options['idempotency_key'] ?? Caller::newKey();
        [$answers] = $this->caller->send('/send/batch', [], $body, $key);
        if (!array_is_list($answers) || \count($answers) !== \count($messages)) {
            throw new BadAnswer('The answer to a batch has another number of messages.');
        }
        return $answers;
    }

    /**
     * What became of a message: its `summary`, and its `devices`, at most `limit` of them, the rest by `cursor`.
     *
     * @param array<string, mixed> $options `limit`, `cursor`, `bodies`
     *
     * @return array<string, mixed>
     */
    public function message(string $id, array $options = []): array
    {
        return $this->caller->ask('GET', self::path($id), self::query($options, ['limit', 'cursor', 'bodies']));
    }

    /**
     * Another name of `message`.
     *
     * @param array<string, mixed> $options
     *
     * @return array<string, mixed>
     */
    public function receipt(string $id, array $options = []): array
    {
        return $this->message($id, $options);
    }

    /** Takes a message out of every queue; answers how many devices had it. */
    public function withdraw(string $id): int
    {
        try {
            return self::number($this->caller->ask('DELETE', self::path($id)), 'devices');
        } catch (Refused $error) {
            // The attempt before, whose answer was lost, may have taken the message away.
            return $error->status === 404 && $error->attempts > 1 ? 0 : throw $error;
        }
    }

    /**
     * Ends the connections that all given fields name; answers how many.
     *
     * @param array<string, mixed> $which `user`, `device`, `room`; and `text`, the reason for the client, and `reconnect`
     */
    public function disconnect(array $which): int
    {
        $which = array_filter($which, static fn (mixed $value): bool => $value !== null);
        return self::number($this->caller->ask('POST', '/disconnect', [], self::json((object) $which)), 'disconnected');
    }

    /**
     * Lets a user, named by the user room, join and leave rooms with all devices; answers how many devices.
     *
     * @param list<string> $join
     * @param list<string> $leave
     */
    public function moveRooms(string $user, array $join = [], array $leave = []): int
    {
        $body = ['user' => $user, 'join' => array_values($join), 'leave' => array_values($leave)];
        return self::number($this->caller->ask('POST', '/rooms', [], self::json($body)), 'devices');
    }

    /**
     * The events of a webhook, when its signature and its time are right.
     *
     * @param string               $body    as it came, before anything has parsed it
     * @param array<string, mixed> $headers of any form: names in any case, `$_SERVER`, lists of values
     *
     * @return list<array<string, mixed>>
     *
     * @throws Exception\BadWebhook
     */
    public function verifyWebhook(string $body, array $headers): array
    {
        return Webhook::verify($body, $headers, $this->settings->webhookSecrets);
    }

    /**
     * A token of the user, that the site checks by itself (its `jwt`).
     *
     * @param string|int           $user   the claim `sub`, without the `userRoomPrefix`
     * @param list<string|int>     $rooms
     * @param array<string, mixed> $claims more claims
     */
    public function signToken(string|int $user, array $rooms = [], int $expiresIn = 600, array $claims = []): string
    {
        return Token::sign($this->settings, (string) $user, $rooms, $expiresIn, $claims);
    }

    /**
     * The answer to a request of Recado to `authUrl`.
     *
     * @param list<string|int>|null $rooms of the user, with the user room; null: the token names nobody
     */
    public static function authAnswer(?array $rooms): AuthAnswer
    {
        return AuthAnswer::of($rooms);
    }

    /** @return array<string, mixed> */
    public function __debugInfo(): array
    {
        return $this->settings->__debugInfo();
    }

    /** @return array<string, mixed> */
    private static function body(mixed $rooms, mixed $event, mixed $args): array
    {
        if (!\is_string($event) || $event === '') {
            throw new BadInput('event: expected a name.');
        }
        return ['rooms' => self::rooms($rooms), 'event' => $event, 'args' => $args];
    }

    /** @return list<string|int> */
    private static function rooms(mixed $rooms): array
    {
        $list = \is_array($rooms) ? array_values($rooms) : [$rooms];
        foreach ($list as $room) {
            if (!\is_string($room) && !\is_int($room) || $room === '') {
                throw new BadInput('rooms: expected names of rooms.');
            }
        }
        return $list;
    }

    /** @return array<string, mixed> */
    private static function batched(mixed $message): array
    {
        if (!\is_array($message)) {
            throw new BadInput('messages: expected arrays with rooms and event.');
        }
        $options = array_diff_key($message, ['rooms' => 1, 'event' => 1, 'args' => 1]);
        $known = array_diff(self::MESSAGE_OPTIONS, ['wait', 'timeout', 'resync']);
        self::check($options, $known);
        $options = array_filter($options, static fn (mixed $value): bool => $value !== null);
        return self::body($message['rooms'] ?? null, $message['event'] ?? null, \array_key_exists('args', $message) ? $message['args'] : [null]) + $options;
    }

    /**
     * @param array<string, mixed> $options
     * @param list<string>         $known
     *
     * @return array<string, string>
     */
    private static function query(array $options, array $known = self::MESSAGE_OPTIONS): array
    {
        self::check($options, $known);
        $query = [];
        foreach ($options as $name => $value) {
            if (\is_bool($value)) {
                $value = $value ? 'true' : 'false';
            }
            if ($value !== null) {
                $query[$name] = \is_scalar($value) ? (string) $value : throw new BadInput("$name: expected a text or a number.");
            }
        }
        return $query;
    }

    /**
     * @param array<string, mixed> $options
     * @param list<string>         $known
     */
    private static function check(array $options, array $known): void
    {
        foreach ($options as $name => $_) {
            if (!\in_array($name, $known, true)) {
                throw new BadInput(self::named($name) . ': expected one of ' . implode(', ', $known) . '.');
            }
        }
    }

    private static function named(string|int $name): string
    {
        return substr((string) $name, 0, 64);
    }

    private static function path(string $id): string
    {
        if (!preg_match('/^\d{1,20}$/D', $id)) {
            throw new BadInput('id: expected the id of a message, in digits.');
        }
        return "/messages/$id";
    }

    private static function json(mixed $value): string
    {
        try {
            $flags = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION | JSON_THROW_ON_ERROR;
            return json_encode($value, $flags);
        } catch (\JsonException $error) {
            throw new BadInput("The message: {$error->getMessage()}");
        }
    }

    /** @param array<string, mixed> $answer */
    private static function number(array $answer, string $name): int
    {
        return \is_int($answer[$name] ?? null) ? $answer[$name] : throw new BadAnswer("The answer has no number of $name.");
    }
}
