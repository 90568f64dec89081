<?php

// The driver of the PHP package for the table of cases; see tests/packages/languages.py. With the argument `psr18` the
// requests go through Guzzle, else through the package's own transport.

declare(strict_types=1);

use GuzzleHttp\Psr7\HttpFactory;
use Recado\Client;
use Recado\Exception\BadAnswer;
use Recado\Exception\BadInput;
use Recado\Exception\BadWebhook;
use Recado\Exception\RecadoException;
use Recado\Exception\Refused;
use Recado\Exception\Unreachable;
use Recado\Http\Psr18Transport;

require __DIR__ . '/../../../clients/php/autoload.php';

const KINDS = [
    Refused::class => 'refused',
    Unreachable::class => 'unreachable',
    BadAnswer::class => 'bad_answer',
    BadWebhook::class => 'bad_webhook',
    BadInput::class => 'bad_input',
];

function client(stdClass $options, bool $isPsr): Client
{
    if (!$isPsr) {
        return new Client((array) $options);
    }
    require_once 'GuzzleHttp/autoload.php';
    // PSR-18 has no time-out of its own: each client has its setting.
    $seconds = min($options->attempt_timeout ?? 10, $options->deadline ?? 30);
    $guzzle = new GuzzleHttp\Client(['timeout' => $seconds, 'read_timeout' => $seconds, 'stream' => true]);
    return new Client((array) $options, new Psr18Transport($guzzle, new HttpFactory(), new HttpFactory()));
}

function named(stdClass $given, string ...$names): array
{
    return array_diff_key((array) $given, array_flip($names));
}

function answer(Client $client, string $call, stdClass $with): mixed
{
    $arguments = property_exists($with, 'args') ? ['args' => $with->args] : [];
    return match ($call) {
        'send' => sent($client->send(
            $with->rooms,
            $with->event,
            ...$arguments,
            ...['options' => named($with, 'rooms', 'event', 'args')],
        )),
        'send_batch' => $client->sendBatch(
            is_array($with->messages) ? array_map(static fn (mixed $one): mixed => $one instanceof stdClass ? (array) $one : $one, $with->messages) : [],
            named($with, 'messages'),
        ),
        'message' => $client->message((string) $with->id, named($with, 'id')),
        'receipt' => $client->receipt((string) $with->id, named($with, 'id')),
        'withdraw' => $client->withdraw((string) $with->id),
        'disconnect' => $client->disconnect((array) $with),
        'move_rooms' => $client->moveRooms($with->user, $with->join ?? [], $with->leave ?? []),
        'verify_webhook' => $client->verifyWebhook($with->body, (array) $with->headers),
        'sign_token' => $client->signToken(
            $with->user,
            $with->rooms ?? [],
            $with->expires_in ?? 600,
            (array) ($with->claims ?? []),
        ),
        'auth_answer' => (array) Client::authAnswer($with->rooms),
        'describe' => shown($client),
    };
}

function sent(Recado\Sent $sent): array
{
    $waited = $sent->acked === null ? [] : ['acked' => $sent->acked, 'waiting' => $sent->waiting];
    return ['id' => $sent->id, 'recipients' => $sent->recipients, 'replayed' => $sent->replayed] + $waited;
}

function shown(Client $client): string
{
    ob_start();
    var_dump($client);
    var_export($client);
    print_r($client);
    return ob_get_clean() . json_encode($client);
}

$isPsr = ($argv[1] ?? '') === 'psr18';
while (($line = fgets(STDIN)) !== false) {
    $asked = json_decode($line, false, 512, JSON_BIGINT_AS_STRING);
    try {
        $answer = ['result' => answer(client($asked->client, $isPsr), $asked->call, $asked->with)];
    } catch (RecadoException | BadInput | TypeError $error) {
        // A value of another type than a method has is refused by the language.
        $kind = KINDS[$error::class] ?? 'bad_input';
        $answer = ['error' => ['kind' => $kind, 'text' => $error->getMessage()]];
        if ($error instanceof Refused) {
            $answer['error'] += ['status' => $error->status, 'code' => $error->reason ?: null];
        }
    }
    fwrite(STDOUT, json_encode($answer, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION) . "\n");
}
