<?php

declare(strict_types=1);

namespace Recado\Exception;

/** The request is no webhook of this secret, or it is too old. Answer 400. */
final class BadWebhook extends RecadoException
{
}
