<?php

declare(strict_types=1);

return [
    'url' => getenv('RECADO_URL') ?: 'http://127.0.0.1:1337',
    'site' => 'laravel-style',
    'api_key' => 'put-a-key-of-your-own-here',
];
