<?php
// A backend that signs by the published rules with PHP's own functions, as Pusher's package for PHP does: its registry
// may be out of reach. Reads an order as JSON, and writes the outcome of each of its calls.

$order = json_decode(stream_get_contents(STDIN), true);

function ask(string $method, string $rest, array $params, ?string $body): array
{
    global $order;
    $path = "/apps/{$order['app_id']}$rest";
    $params = ['auth_key' => $order['key'], 'auth_timestamp' => time(), 'auth_version' => '1.0'] + $params;
    if ($body !== null) {
        $params['body_md5'] = md5($body);
    }
    ksort($params);
    $pairs = [];
    foreach ($params as $name => $value) {
        $pairs[] = "$name=$value";
    }
    $params['auth_signature'] = hash_hmac('sha256', "$method\n$path\n" . implode('&', $pairs), $order['secret']);
    $options = [
        'method' => $method,
        'header' => "Content-Type: application/json\r\nConnection: close\r\n",
        'content' => $body ?? '',
        'ignore_errors' => true,
        'timeout' => 30,
    ];
    $url = "http://{$order['host']}:{$order['port']}$path?" . http_build_query($params);
    $answer = file_get_contents($url, false, stream_context_create(['http' => $options]));
    $status = (int) explode(' ', $http_response_header[0])[1];
    // An object without fields is an object in JSON, too.
    return $status === 200 ? ['value' => json_decode($answer)] : ['status' => $status, 'text' => $answer];
}

function encoded($data): string
{
    return is_string($data) ? $data : json_encode($data);
}

function encrypted(string $channel, string $data): string
{
    global $order;
    $key = hash('sha256', $channel . base64_decode($order['master_key']), true);
    $nonce = random_bytes(SODIUM_CRYPTO_SECRETBOX_NONCEBYTES);
    $sealed = sodium_crypto_secretbox($data, $nonce, $key);
    return json_encode(['nonce' => base64_encode($nonce), 'ciphertext' => base64_encode($sealed)]);
}

function trigger($channels, string $event, $data, array $more): array
{
    $channels = (array) $channels;
    // The package encodes a text, too.
    $data = json_encode($data);
    if (str_starts_with($channels[0], 'private-encrypted-')) {
        $data = encrypted($channels[0], $data);
    }
    $content = ['name' => $event, 'data' => $data, 'channels' => $channels] + $more;
    return ask('POST', '/events', [], json_encode($content));
}

$calls = [
    'trigger' => 'trigger',
    'batch' => function (array $events): array {
        foreach ($events as $number => $event) {
            $events[$number]['data'] = encoded($event['data']);
        }
        return ask('POST', '/batch_events', [], json_encode(['batch' => $events]));
    },
    'channels' => fn(array $params) => ask('GET', '/channels', $params, null),
    'channel' => fn(string $channel, array $params) => ask('GET', "/channels/$channel", $params, null),
    'users' => fn(string $channel) => ask('GET', "/channels/$channel/users", [], null),
    'to_user' => fn(string $user, string $event, $data) => trigger("#server-to-user-$user", $event, $data, []),
    'terminate' => fn(string $user) => ask('POST', "/users/$user/terminate_connections", [], '{}'),
];

$outcomes = [];
foreach ($order['calls'] as $call) {
    $outcomes[] = $calls[array_shift($call)](...$call);
}
echo json_encode($outcomes);
